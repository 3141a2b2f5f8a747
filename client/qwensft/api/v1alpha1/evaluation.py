"""`spec.evaluation`: what the training is measured on while it runs, and what is shown of it afterwards.

Rows to evaluate on are never trained on.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import ApiModel, Rule, UniqueBy, argument
from .datasets import Dataset


class EarlyStopping(ApiModel):
    """When evaluations no longer get better, the training ends."""

    patience: int = Field(
        ge=1,
        le=1000,
        description="Evaluations in a row without a better loss after which the training ends.",
    )
    min_delta: float = Field(
        0.0, ge=0, le=1000, description="By how much the loss must fall below the best one so far to count as better."
    )


class Evaluation(ApiModel):
    """A held-out part of the training data, or datasets of its own, and how often the loss on it is computed.

    With `samples` alone nothing is held out, and no loss is computed.
    """

    rules = (
        Rule(
            cel="has(self.fraction) ? !has(self.datasets) : has(self.datasets) || self.?samples.orDefault() > 0",
            message="set exactly one of fraction or datasets, for example fraction: 0.05; samples alone needs neither",
            check=lambda evaluation: (
                (evaluation.fraction is None) != (evaluation.datasets is None)
                or (not evaluation.has_rows and evaluation.samples > 0)
            ),
        ),
        Rule(
            cel="has(self.fraction) || has(self.datasets) || !(has(self.everySteps) || has(self.batchSize)"
            " || self.?keepBest.orDefault() || has(self.earlyStopping))",
            message="everySteps, batchSize, keepBest and earlyStopping need fraction or datasets",
            check=lambda evaluation: (
                evaluation.has_rows
                or (evaluation.every_steps is None and evaluation.batch_size is None and not evaluation.compares)
            ),
        ),
        Rule(
            cel="!has(self.datasets) || self.datasets.all(dataset, !has(dataset.weight))",
            message="weights mix training data, and evaluation sets are not mixed: remove weight from "
            "evaluation.datasets",
            check=lambda evaluation: all(dataset.weight is None for dataset in evaluation.datasets or ()),
            field=".datasets",
        ),
    )

    fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the training rows to hold out, drawn with training.seed. Default: none, as datasets are "
        "given.",
        json_schema_extra=argument("val_size"),
    )
    datasets: Annotated[list[Dataset], Field(min_length=1, max_length=16), UniqueBy("name")] | None = Field(
        None,
        description="Datasets to evaluate on, 1 to 16; laid out as spec.datasets, and without weights. Default: none, "
        "as fraction is given.",
        json_schema_extra=argument("eval_dataset"),
    )
    every_steps: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Steps between two evaluations. Default: training.saveSteps.",
        json_schema_extra=argument("do_eval", "eval_strategy", "eval_steps"),
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Examples per process and forward pass. Default: training.perDeviceTrainBatchSize.",
        json_schema_extra=argument("per_device_eval_batch_size"),
    )
    keep_best: bool = Field(
        False,
        description="Take the checkpoint with the lowest evaluation loss as the result, and not the last one. "
        "everySteps must be a multiple of training.saveSteps.",
        json_schema_extra=argument("load_best_model_at_end"),
    )
    early_stopping: EarlyStopping | None = Field(
        None,
        description="End the training when evaluations no longer get better; the count goes on after a restart. "
        "everySteps must be a multiple of training.saveSteps. Default: all steps are trained.",
    )
    samples: int = Field(
        0,
        ge=0,
        le=32,
        description="Number of rows that report.html shows with answers before and after the training. These are "
        "generated at its end, by one pod, for 10 minutes at most.",
    )

    @property
    def has_rows(self) -> bool:
        """Whether there are rows to evaluate on; not so with `samples` alone."""
        return self.fraction is not None or self.datasets is not None

    @property
    def compares(self) -> bool:
        """Whether evaluations decide about checkpoints, so that each needs one."""
        return self.keep_best or self.early_stopping is not None
