"""`spec.training`: optimiser, schedule, batches, precision, checkpoints.

The defaults are those of Qwen's own LLaMA-Factory guide, so that an empty block trains as the guide does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import ApiModel, Rule, argument
from .constants import DEFAULT_EPOCHS, DEFAULT_WARMUP_STEPS
from .trackers import ReportTo

# Schedulers that work without further arguments; the others need lr_scheduler_kwargs or an evaluation set.
Scheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]
Precision = Literal["bf16", "fp16", "fp32", "pure_bf16"]
MixStrategy = Literal["concat", "interleave_under", "interleave_over", "interleave_once"]

_MAX_STEPS = 100_000_000


class Training(ApiModel):
    """Hyperparameters of the training."""

    rules = (
        Rule(
            cel="!(has(self.epochs) && has(self.maxSteps))",
            message="epochs and maxSteps both set the length of the training: remove one of them",
            check=lambda training: training.epochs is None or training.max_steps is None,
        ),
        Rule(
            cel="!(has(self.warmupSteps) && has(self.warmupRatio))",
            message="warmupSteps and warmupRatio both set the length of the warm-up: remove one of them",
            check=lambda training: training.warmup_steps is None or training.warmup_ratio is None,
        ),
        Rule(
            cel="!self.?neatPacking.orDefault() || self.?packing.orDefault()",
            message="neatPacking keeps packed examples apart, and nothing is packed: set packing: true, or remove "
            "neatPacking",
            check=lambda training: not training.neat_packing or training.packing,
            field=".neatPacking",
        ),
    )

    epochs: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="Passes over the data; fractions are allowed. Not with maxSteps. Default: 3, unless maxSteps is "
        "set.",
        json_schema_extra=argument("num_train_epochs"),
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        le=_MAX_STEPS,
        description="Number of optimiser steps, in place of epochs. Default: as many as epochs need.",
        json_schema_extra=argument("max_steps"),
    )
    learning_rate: float = Field(
        5e-6,
        gt=0,
        le=1,
        description="Peak learning rate of AdamW, reached after the warm-up. LoRA usually takes 1e-5 to 2e-4.",
        json_schema_extra=argument("learning_rate"),
    )
    scheduler: Scheduler = Field(
        "cosine",
        description="How the learning rate changes after the warm-up.",
        json_schema_extra=argument("lr_scheduler_type"),
    )
    warmup_steps: int | None = Field(
        None,
        ge=0,
        le=_MAX_STEPS,
        description="Steps over which the learning rate rises to its peak. Not with warmupRatio. Default: 100, unless "
        "warmupRatio is set.",
        json_schema_extra=argument("warmup_steps"),
    )
    warmup_ratio: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Length of the warm-up as a share of all steps, in place of warmupSteps. Default: warmupSteps "
        "counts.",
        json_schema_extra=argument("warmup_ratio"),
    )
    weight_decay: float = Field(
        0.1, ge=0, le=1, description="Weight decay of AdamW.", json_schema_extra=argument("weight_decay")
    )
    per_device_train_batch_size: int = Field(
        4,
        ge=1,
        le=65536,
        description="Examples per process and forward pass. The batch of one step is this * "
        "gradientAccumulationSteps * processesPerNode * nodes.",
        json_schema_extra=argument("per_device_train_batch_size"),
    )
    gradient_accumulation_steps: int = Field(
        4,
        ge=1,
        le=65536,
        description="Forward passes whose gradients are summed before one optimiser step.",
        json_schema_extra=argument("gradient_accumulation_steps"),
    )
    cutoff_len: int = Field(
        4096,
        ge=16,
        le=1_048_576,
        description="Longest example, in tokens; the rest is cut off. The main lever against running out of memory.",
        json_schema_extra=argument("cutoff_len"),
    )
    packing: bool = Field(
        False,
        description="Fill sequences of cutoffLen tokens with several examples, instead of padding each one.",
        json_schema_extra=argument("packing"),
    )
    neat_packing: bool = Field(
        False,
        description="Keep packed examples from attending to each other. Needs packing.",
        json_schema_extra=argument("neat_packing"),
    )
    mix_strategy: MixStrategy | None = Field(
        None,
        description="How several datasets become one: concat (one after the other, then shuffled), interleave_under "
        "(drawn by weight until the first is used up), interleave_over (until all are; the smaller ones repeat) or "
        "interleave_once (until all are, none repeats). Default: interleave_under when datasets have weights, else "
        "concat.",
        json_schema_extra=argument("mix_strategy"),
    )
    precision: Precision = Field(
        "bf16",
        description="Number format of the computation: bf16 (GPUs since Ampere; many CPUs are very slow at it), fp16 "
        "(older GPUs), fp32 (CPUs; twice the memory; with LoRA the frozen base stays in the format of its files), "
        "pure_bf16 (weights and optimiser in bf16 too: half the memory, less accurate; GPUs only).",
        json_schema_extra=argument("bf16", "fp16", "pure_bf16"),
    )
    gradient_checkpointing: bool = Field(
        True,
        description="Recompute activations in the backward pass: about 30 % slower, much less memory. The opposite of "
        "LLaMA-Factory's switch.",
        json_schema_extra=argument("disable_gradient_checkpointing"),
    )
    liger_kernel: bool = Field(
        False,
        description="Use the fused Triton kernels of Liger: faster, and less memory for the loss of a large "
        "vocabulary. Needs accelerators.",
        json_schema_extra=argument("enable_liger_kernel"),
    )
    seed: int = Field(
        42, ge=0, le=2**31 - 1, description="Seed of all random numbers.", json_schema_extra=argument("seed")
    )
    logging_steps: int = Field(
        1, ge=1, le=1_000_000, description="Steps between two log lines.", json_schema_extra=argument("logging_steps")
    )
    save_steps: int = Field(
        1000,
        ge=1,
        le=_MAX_STEPS,
        description="Steps between two checkpoints. After a failure the training goes on from the newest complete one.",
        json_schema_extra=argument("save_steps"),
    )
    save_total_limit: int = Field(
        2,
        ge=1,
        le=1000,
        description="Number of checkpoints to keep; older ones are deleted. A checkpoint of full tuning takes about "
        "8 times the size of the bf16 model.",
        json_schema_extra=argument("save_total_limit"),
    )
    plot_loss: bool = Field(
        True,
        description="Write a picture of the loss curve beside the adapter.",
        json_schema_extra=argument("plot_loss"),
    )
    report_to: ReportTo | None = Field(
        None,
        description="Trackers of experiments that the training reports to. None of them can end or slow it. Default: "
        "none; status.progress and /metrics tell the same figures.",
    )
    ddp_timeout_seconds: int = Field(
        9000,
        ge=60,
        le=604_800,
        description="Seconds that a collective operation waits for the slowest process before the training fails.",
        json_schema_extra=argument("ddp_timeout"),
    )

    @property
    def effective_epochs(self) -> float | None:
        """Epochs to train; None when `max_steps` sets the length."""
        return None if self.max_steps is not None else (self.epochs if self.epochs is not None else DEFAULT_EPOCHS)

    @property
    def effective_warmup_steps(self) -> int | None:
        """Steps of the warm-up; None when `warmup_ratio` sets them."""
        if self.warmup_ratio is not None:
            return None
        return self.warmup_steps if self.warmup_steps is not None else DEFAULT_WARMUP_STEPS
