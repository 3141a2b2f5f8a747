"""`QwenSFTJob` itself: metadata, the whole spec with the rules between its parts, and the parser for raw documents."""

from __future__ import annotations

import copy
import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from .arguments import ExtraArguments
from .base import ApiModel, Rule, StatusModel, Time
from .combinations import COMBINATIONS
from .datasets import Dataset, Datasets
from .distribution import Distribution
from .evaluation import Evaluation
from .immutability import IMMUTABLE
from .merge import Merge
from .model import Model
from .policy import RunPolicy
from .status import Status
from .storage import Storage
from .training import MixStrategy, Training
from .tuning import Tuning
from .worker import Prepare, Worker


class InvalidJobError(ValueError):
    """A document is no valid QwenSFTJob. The message names each offending field by its path and tells what is wrong."""


class Spec(ApiModel):
    """What to train, on which data, where. One QwenSFTJob is one run: most of it is fixed at creation."""

    rules = (*COMBINATIONS, *IMMUTABLE)

    model: Model = Field(description="The base model.")
    datasets: Datasets = Field(description="The training data: 1 to 32 datasets, by name.")
    evaluation: Evaluation | None = Field(
        None, description="What the training is measured on while it runs. Default: nothing."
    )
    tuning: Tuning = Field(Tuning(), description="Which weights are trained: LoRA adapters or all of them.")
    training: Training = Field(Training(), description="Optimiser, schedule, batches, precision and checkpoints.")
    distribution: Distribution = Field(Distribution(), description="Number of nodes and of processes on each.")
    worker: Worker = Field(
        Worker(), description="The training pods: image, accelerators, resources, placement, identity."
    )
    prepare: Prepare = Field(
        Prepare(), description="The stage that downloads, checks and tokenises, without accelerators."
    )
    storage: Storage = Field(description="The volume of the run, and the directory on it.")
    merge: Merge = Field(
        Merge(), description="The stage that merges adapter and base. An edit after success merges again."
    )
    run_policy: RunPolicy = Field(
        RunPolicy(), description="Suspending, restarts, deadline, tidying up. Editable at any time."
    )
    extra_arguments: ExtraArguments = Field(
        {},
        description="LLaMA-Factory training arguments that no field covers, name: value, such as "
        "neftune_noise_alpha: '5'. Values are YAML scalars in quotes. Arguments that a field or the operator sets "
        "are refused. Default: none.",
    )

    @property
    def processes_per_node(self) -> int:
        """Training processes in each pod: as given, else one per accelerator, else one."""
        return self.distribution.processes_per_node or self.worker.accelerator.count or 1

    @property
    def evaluation_sets(self) -> list[Dataset]:
        """Datasets that are only evaluated on; empty when a fraction of the training data is, or nothing."""
        return (self.evaluation.datasets or []) if self.evaluation else []

    @property
    def all_datasets(self) -> list[Dataset]:
        """Datasets to train and to evaluate on, in this order."""
        return [*self.datasets, *self.evaluation_sets]

    @property
    def mix_strategy(self) -> MixStrategy:
        """How datasets become one: as given, else drawn by weight where they have weights, else concatenated."""
        weighted = any(dataset.weight is not None for dataset in self.datasets)
        return self.training.mix_strategy or ("interleave_under" if weighted else "concat")

    @property
    def access_modes(self) -> list[str]:
        """Access modes of a claim made from the template: as given, else what the number of nodes needs."""
        template = self.storage.volume.claim_template
        if template and template.access_modes:
            return list(template.access_modes)
        return ["ReadWriteMany" if self.distribution.nodes > 1 else "ReadWriteOnce"]


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


_NAME = r"^[a-z]([-a-z0-9]{0,43}[a-z0-9])?$"


class QwenSFTJob(ApiModel):
    """A QwenSFTJob fine-tunes a Qwen model with LLaMA-Factory: it prepares the data, trains, merges and verifies."""

    rules = (
        Rule(
            cel=f"self.metadata.name.matches('{_NAME}')",
            message="the name becomes part of host names: at most 45 lower-case letters, digits and '-', starting "
            "with a letter; use '-' instead of '.'",
            check=lambda job: re.fullmatch(_NAME, job.metadata.name) is not None,
            field=".metadata.name",
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


def parse_job(raw: dict[str, Any]) -> QwenSFTJob:
    """Read a document as the apiserver returns it (JSON types, camelCase keys).

    A value of the status that this version cannot read, since a newer one has written it, is left out.

    Raises:
        InvalidJobError: a field is missing, unknown, malformed or against a rule.
    """
    try:
        return QwenSFTJob.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unread = next((details["loc"] for details in problems if details["loc"][:1] == ("status",)), None)
        if unread is not None:
            return parse_job(_without(raw, unread))
        raise InvalidJobError("; ".join(map(_problem, problems))) from error


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


def _problem(details: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"])
    path += details.get("ctx", {}).get("field", "") if details["type"] == "rule" else ""
    return f"{path.removeprefix('.') or 'document'}: {details['msg']}"
