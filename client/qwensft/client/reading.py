"""QwenSFTJobs as the API server stores them, read and written. Pure."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from qwensft.api.v1alpha1 import API_VERSION, KIND, ConditionType, InvalidJobError, QwenSFTJob, parse_job

Document = dict[str, Any]


def read_job(document: Document) -> QwenSFTJob:
    """Read a stored job; fields of its spec that only a newer version knows are left out.

    Raises:
        InvalidJobError: it is not understood otherwise.
    """
    try:
        return parse_job(document, rules=False)
    except InvalidJobError as error:
        unknown = _unknown_fields(error)
        if not unknown:
            raise InvalidJobError(
                f"{document['metadata']['name']} is stored in a form that this version of qwensft does not understand; "
                f"install the operator's version of it ({error})"
            ) from error
        return read_job(_without(document, unknown))


def _unknown_fields(error: InvalidJobError) -> list[tuple[int | str, ...]]:
    cause = error.__cause__
    problems = cause.errors(include_url=False) if isinstance(cause, ValidationError) else []
    return [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]


def _without(document: Document, places: list[tuple[int | str, ...]]) -> Document:
    document = copy.deepcopy(document)
    for *way, last in places:
        holder: Any = document
        for step in way:
            holder = holder[step]
        del holder[last]
    return document


def written(job: QwenSFTJob | Document, namespace: str) -> Document:
    """Return a job as it is sent: checked by every rule, in this namespace, without a status.

    Raises:
        InvalidJobError: it breaks the schema or a rule, or names another namespace.
    """
    raw = {**job} if isinstance(job, dict) else {"apiVersion": API_VERSION, "kind": KIND, **job.document()}
    raw.pop("status", None)
    parse_job(raw)
    metadata = {**raw["metadata"]}
    if metadata.setdefault("namespace", namespace) != namespace:
        raise InvalidJobError(
            f"metadata.namespace: the job is for namespace {metadata['namespace']}, the client for {namespace}: leave "
            f"it out, or use Client(namespace={metadata['namespace']!r})"
        )
    return {**raw, "metadata": metadata}


def has_ended(job: QwenSFTJob) -> bool:
    """Whether the newest spec of the job has succeeded, or failed for good."""
    succeeded = job.status.condition(ConditionType.SUCCEEDED)
    current = job.status.observed_generation == job.metadata.generation
    return current and succeeded is not None and succeeded.status != "Unknown"
