"""QwenSFTJobs as the API server stores them, read and written. Pure."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from qwensft.api.v1alpha1 import (
    API_VERSION,
    KIND,
    ConditionType,
    InvalidJobError,
    ObjectMeta,
    QwenSFTJob,
    Spec,
    parse_job,
)
from qwensft.api.v1alpha1.base import problem_text
from qwensft.client.errors import ClientError, RunFailedError

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


def job_of(
    name: str, *, model: Any, storage: Any, dataset: Document | None, spec: Document, metadata: Document
) -> QwenSFTJob:
    """Return the job that the arguments of `Client.train` say.

    Blocks are models of the API or dicts in either spelling; for model and storage a text is a name and a size.

    Raises:
        InvalidJobError: a block is unknown, malformed or against a rule.
    """
    blocks = {**spec, "model": model, "storage": storage}
    if isinstance(model, str):
        blocks["model"] = {"name": model}
    if isinstance(storage, str):
        blocks["storage"] = {"volume": {"claimTemplate": {"size": storage}}}
    if dataset is not None:
        blocks["datasets"] = [dataset, *(blocks.get("datasets") or [])]
    try:
        return QwenSFTJob(metadata=ObjectMeta(name=name, **metadata), spec=Spec(**blocks))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise InvalidJobError("; ".join(problem_text(details, Spec) for details in problems)) from error


def has_ended(job: QwenSFTJob) -> bool:
    """Whether the newest spec of the job has succeeded, or failed for good."""
    succeeded = job.status.condition(ConditionType.SUCCEEDED)
    current = job.status.observed_generation == job.metadata.generation
    return current and succeeded is not None and succeeded.status != "Unknown"


def end_of(job: QwenSFTJob) -> ClientError:
    """Return the exception for a run that has ended otherwise than it was waited for."""
    name, succeeded = job.metadata.name, job.status.condition(ConditionType.SUCCEEDED)
    if succeeded is not None and succeeded.status == "False":
        return RunFailedError(name, succeeded.reason, succeeded.message)
    return ClientError(f"{name} has succeeded already: what was waited for will not come")
