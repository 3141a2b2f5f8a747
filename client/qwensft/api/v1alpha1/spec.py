"""The fields of `spec`, one for each block, and the values that are derived from several blocks."""

from __future__ import annotations

from pydantic import Field

from .arguments import ExtraArguments
from .base import ApiModel
from .datasets import Dataset, Datasets
from .distribution import Distribution
from .evaluation import Evaluation
from .merge import Merge
from .model import Model
from .policy import RunPolicy
from .storage import Storage
from .training import MixStrategy, Training
from .tuning import Tuning
from .worker import Prepare, Worker


class SpecFields(ApiModel):
    """The blocks of a spec, and what follows from them, without the rules between them: `job.Spec` adds these."""

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
