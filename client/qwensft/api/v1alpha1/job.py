"""`QwenSFTJob` itself: metadata, the whole spec with the rules between its parts, and the parser for raw documents."""

from __future__ import annotations

import copy
import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from .base import WITHOUT_RULES, ApiModel, Rule, StatusModel, Time, problem_text
from .combination_rules import COMBINATIONS
from .common import RUN_NAME
from .constants import LABEL_QUEUE
from .immutability_rules import IMMUTABLE
from .spec import SpecFields
from .status import Status


class InvalidJobError(ValueError):
    """A document is no valid QwenSFTJob. The message names each offending field by its path and tells what is wrong."""


class Spec(SpecFields):
    """What to train, on which data, where. One QwenSFTJob is one run: most of it is fixed at creation."""

    rules = (*COMBINATIONS, *IMMUTABLE)


class ObjectMeta(StatusModel):
    """The parts of the metadata that the operator reads."""

    name: str = Field(description="Name of the job.")
    namespace: str = Field("default", description="Namespace of the job.")
    uid: str = Field("", description="UID, set by the apiserver.")
    generation: int = Field(0, description="Counts the changes of the spec; set by the apiserver.")
    resource_version: str = Field("", description="Version of the stored object.")
    creation_timestamp: Time | None = Field(None, description="When the job was created.")
    deletion_timestamp: Time | None = Field(None, description="When its deletion was asked for.")
    labels: dict[str, str] = Field({}, description="Labels.")
    annotations: dict[str, str] = Field({}, description="Annotations.")


def _begins_with_itself(job: QwenSFTJob) -> bool:
    source = job.spec.model.source
    return source is not None and source.run is not None and source.run.name == job.metadata.name


def _goes_on_with_itself(job: QwenSFTJob) -> bool:
    adapter = job.spec.model.adapter
    return adapter is not None and adapter.run.name == job.metadata.name


class QwenSFTJob(ApiModel):
    """A QwenSFTJob fine-tunes a Qwen model with LLaMA-Factory: it prepares the data, trains, merges and verifies."""

    rules = (
        Rule(
            cel=f"self.metadata.name.matches('{RUN_NAME}')",
            message="the name becomes part of host names: at most 45 lower-case letters, digits and '-', starting "
            "with a letter; use '-' instead of '.'",
            check=lambda job: re.fullmatch(RUN_NAME, job.metadata.name) is not None,
            field=".metadata.name",
        ),
        Rule(
            cel="!has(self.spec.model.source) || !has(self.spec.model.source.run)"
            " || self.spec.model.source.run.name != self.metadata.name",
            message="a run cannot begin with its own result: name another QwenSFTJob, or give this one another name",
            check=lambda job: not _begins_with_itself(job),
            field=".spec.model.source.run.name",
        ),
        Rule(
            cel="!has(self.spec.model.adapter) || self.spec.model.adapter.run.name != self.metadata.name",
            message="a run cannot go on with its own adapter: name another QwenSFTJob, or give this one another name",
            check=lambda job: not _goes_on_with_itself(job),
            field=".spec.model.adapter.run.name",
        ),
    )

    api_version: Literal["qwensft.io/v1alpha1"] = Field("qwensft.io/v1alpha1", description="Version of this schema.")
    kind: Literal["QwenSFTJob"] = Field("QwenSFTJob", description="Kind of this resource.")
    metadata: ObjectMeta = Field(description="Standard object metadata.")
    spec: Spec = Field(description="What to train, on which data, where.")
    status: Status = Field(Status(), description="State of the job, written by the operator alone.")

    @property
    def run_path(self) -> str:
        """Directory of the run, relative to the volume's root: as given, else `<name>-<first 8 of the UID>`."""
        return self.spec.storage.path or f"{self.metadata.name}-{self.metadata.uid[:8]}"

    @property
    def workspace_claim(self) -> str:
        """Name of the claim that holds the run: the one given, else `<name>-workspace`."""
        return self.spec.storage.volume.claim_name or f"{self.metadata.name}-workspace"

    @property
    def queue(self) -> str | None:
        """Name of the LocalQueue that admits the training, None where it waits in none."""
        return self.spec.run_policy.queue_name or self.metadata.labels.get(LABEL_QUEUE) or None


def parse_job(raw: dict[str, Any], *, rules: bool = True) -> QwenSFTJob:
    """Read a document as the apiserver returns it (JSON types, camelCase keys).

    A value of the status that this version cannot read, since a newer one has written it, is left out.

    Args:
        raw: The document.
        rules: Whether it must obey the rules, too, and not have its shape alone.

    Raises:
        InvalidJobError: a field is missing, unknown, malformed or against a rule.
    """
    context = None if rules else WITHOUT_RULES
    try:
        return QwenSFTJob.model_validate(raw, context=context, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unread = next((details["loc"] for details in problems if details["loc"][:1] == ("status",)), None)
        if unread is not None:
            return parse_job(_without(raw, unread), rules=rules)
        raise InvalidJobError("; ".join(problem_text(details, QwenSFTJob) for details in problems)) from error


def read_status(document: dict[str, Any]) -> Status:
    """Read a status as far as it can be read: a value that breaks the schema is left out, or what lacks one is.

    ADR 0149 says why.
    """
    raw = {"status": document}
    while True:
        try:
            return Status.model_validate(raw["status"])
        except ValidationError as error:
            raw = _without(raw, ("status", *error.errors(include_url=False)[0]["loc"]))


def _without(raw: dict[str, Any], unread: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the document without the value at which an error points, or without what lacks a value there."""
    document = raw | {"status": copy.deepcopy(raw["status"])}
    container: Any = document
    place: tuple[Any, Any] = (document, "status")
    for part in unread:
        inside = part in container if isinstance(container, dict) else isinstance(container, list)
        if not inside:
            break
        place, container = (container, part), container[part]
    del place[0][place[1]]
    return document
