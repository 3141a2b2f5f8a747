"""`status`: what the operator reports. Everything is optional, and what a newer version has written does no harm.

Numbers stay numbers; the two texts in `progress` exist for the columns of `kubectl get` alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .base import OpenEnum, StatusModel, Time, UniqueBy

Count = Annotated[int, Field(ge=0, le=2**53)]
ReasonText = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$")]


class Phase(StrEnum):
    """One word for people; programs read the conditions."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    MERGING = "Merging"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Condition(StatusModel):
    """One aspect of the job's state, in the form that all Kubernetes tools read."""

    type: str = Field(
        min_length=1,
        max_length=64,
        description="Aspect: Succeeded, Reconciling, Stalled, Suspended, Prepared, Trained or Merged.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the aspect holds.")
    reason: ReasonText = Field(
        description="Cause in one CamelCase word, for programs: OutOfMemory, InvalidDataset, Unschedulable...",
    )
    message: str = Field(
        max_length=32768,
        description="Cause in a sentence, for people: pod, rank, exit code, last error line, and the fix.",
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec that this was said about.")


class Progress(StatusModel):
    """How far the training is. Values are measured, never guessed; one that is not known yet is absent."""

    step: Count | None = Field(None, description="Optimiser steps done, over all attempts.")
    total_steps: Count | None = Field(None, description="Optimiser steps of the whole training.")
    percentage: int | None = Field(None, ge=0, le=100, description="step in percent of totalSteps, rounded down.")
    epoch: float | None = Field(None, description="Passes over the data done.")
    loss: float | None = Field(None, description="Training loss of the last log line.")
    initial_loss: float | None = Field(None, description="Training loss of the first log line.")
    eval_loss: float | None = Field(None, description="Loss of the last evaluation.")
    best_eval_loss: float | None = Field(None, description="Lowest loss of an evaluation so far.")
    best_step: Count | None = Field(None, description="Step of the evaluation with the lowest loss.")
    learning_rate: float | None = Field(None, description="Learning rate of the last log line.")
    tokens_per_second: float | None = Field(None, description="Tokens trained per second, by all processes together.")
    estimated_remaining_seconds: Count | None = Field(None, description="Seconds to the end, at the present pace.")
    last_update_time: Time | None = Field(None, description="When the trainer last reported a step.")
    steps: str | None = Field(None, max_length=64, description="step and totalSteps as text, for kubectl get: 120/500.")
    eta: str | None = Field(
        None, max_length=32, description="estimatedRemainingSeconds as text, for kubectl get: 2h15m."
    )


class Exhaustion(StatusModel):
    """An attempt that ran out of memory: where, and made from what."""

    step: Count | None = Field(None, description="train only: optimiser steps done, at most.")
    made_from: str | None = Field(
        None, max_length=64, description="Digest of the editable fields that the attempt was made from."
    )


class StageStatus(StatusModel):
    """State of one stage."""

    job_name: str | None = Field(None, max_length=63, description="Name of the latest attempt's Job.")
    attempt: Count | None = Field(None, description="Number of the latest attempt, from 1.")
    restarts: Count | None = Field(None, description="Attempts after a failure that counted against the stage's limit.")
    start_time: Time | None = Field(None, description="When the first attempt began.")
    completion_time: Time | None = Field(None, description="When the stage was done; absent while it is not.")
    consecutive_failures: Count | None = Field(
        None,
        description="Failures in a row, each less than 10 minutes after its attempt began, whether they count as "
        "restarts or not. The wait before the next attempt doubles with each.",
    )
    retry_time: Time | None = Field(None, description="Not before which the next attempt starts, after a failure.")
    reason: ReasonText | None = Field(
        None,
        description="Cause of the last failure, in one CamelCase word; its sentence is the message.",
    )
    message: str | None = Field(None, max_length=32768, description="What the stage does or why it failed.")
    failed_attempt: Count | None = Field(None, description="Number of the attempt that reason and message are about.")
    stopped_step: Count | None = Field(
        None, description="train only: optimiser steps done when the last attempt ended before its time."
    )
    out_of_memory: Exhaustion | None = Field(
        None, description="The last attempt that ran out of memory. One more that comes no further ends the run."
    )
    spec_hash: str | None = Field(
        None, max_length=64, description="Hash of the settings that the stage was started with."
    )
    bytes_done: Count | None = Field(
        None, description="merge only: bytes of the merged weights that the latest attempt has written."
    )
    bytes_total: Count | None = Field(None, description="merge only: bytes of all merged weights.")


class Stages(StatusModel):
    """State of each stage."""

    prepare: StageStatus | None = Field(None, description="Download, check and tokenise.")
    train: StageStatus | None = Field(None, description="Train.")
    merge: StageStatus | None = Field(None, description="Merge adapter and base, and verify.")


class DatasetStatus(StatusModel):
    """What the prepare stage counted."""

    samples: Count | None = Field(None, description="Examples to train on, over all datasets and before packing.")
    tokens: Count | None = Field(None, description="Tokens in these examples.")
    eval_samples: Count | None = Field(None, description="Examples to evaluate on.")
    truncated_samples: Count | None = Field(None, description="Examples that training.cutoffLen cuts off.")
    duplicate_samples: Count | None = Field(
        None, description="Rows of the training data that repeat an earlier one exactly, counted in the files."
    )
    eval_samples_in_training: Count | None = Field(
        None, description="Rows of the evaluation datasets that are in the training data, too."
    )
    length_p50: Count | None = Field(None, description="Tokens of an example, before the cut: median.")
    length_p90: Count | None = Field(None, description="Tokens of an example, before the cut: 90th percentile.")
    length_p99: Count | None = Field(None, description="Tokens of an example, before the cut: 99th percentile.")
    length_max: Count | None = Field(None, description="Tokens of the longest example, before the cut.")


class Estimate(StatusModel):
    """Memory that the training is expected to need; docs/memory.md tells how it is reckoned and how far it is off."""

    gpu_memory_gi_b: float | None = Field(None, ge=0, description="Memory of each accelerator, in GiB.")
    host_memory_gi_b: float | None = Field(None, ge=0, description="Memory of each training pod, in GiB.")
    accelerator_memory_gi_b: float | None = Field(
        None, ge=0, description="Memory that an accelerator has, in GiB, as the job or the nodes' labels tell."
    )
    fits: bool | None = Field(None, description="Whether it fits; absent where the accelerator's memory is unknown.")
    message: str | None = Field(None, max_length=1024, description="The estimate in a sentence, and what to change.")


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=2**53)]


class AttemptUsage(StatusModel):
    """An attempt at a stage, and the accelerators that it held."""

    stage: str | None = Field(None, max_length=16, description="prepare, train or merge.")
    attempt: Count | None = Field(None, description="Number of the attempt, from 1.")
    start_time: Time | None = Field(None, description="When its first pod had a node.")
    accelerators: Count | None = Field(None, description="Accelerators of all its pods.")
    seconds: Count | None = Field(None, description="Seconds from startTime to the end of its Job, or until now.")
    accelerator_seconds: Count | None = Field(None, description="seconds times accelerators.")
    training_time: Time | None = Field(None, description="train only: when its first step began.")
    before_first_step_seconds: Count | None = Field(
        None, description="train only: seconds from startTime to trainingTime."
    )
    from_step: Count | None = Field(None, description="train only: optimiser steps that were done before it.")
    to_step: Count | None = Field(None, description="train only: optimiser steps that were done in the end.")


class Startup(StatusModel):
    """What the latest training attempt did before its first step, one after the other.

    The first two are of the slowest pod, and told once the pods have ended; the others are those of node rank 0.
    """

    schedule_seconds: Seconds | None = Field(None, description="Until all pods had nodes. No accelerator was held.")
    image_seconds: Seconds | None = Field(None, description="Until the containers ran: image and volumes.")
    checks_seconds: Seconds | None = Field(
        None, description="The entrypoint started; configuration, model and rows were looked at."
    )
    gang_seconds: Seconds | None = Field(None, description="Until all pods were there.")
    imports_seconds: Seconds | None = Field(None, description="torchrun, and libraries that its workers import.")
    rendezvous_seconds: Seconds | None = Field(None, description="Until the processes had found each other.")
    data_seconds: Seconds | None = Field(None, description="Tokenizer and rows.")
    model_seconds: Seconds | None = Field(None, description="Loading the model.")
    setup_seconds: Seconds | None = Field(None, description="Optimizer, and the checkpoint to go on from.")


class Usage(StatusModel):
    """Accelerator time of the run, as of the last change of the status. Without accelerators the times are 0."""

    accelerator_seconds: Count | None = Field(None, description="Seconds times accelerators, over all attempts.")
    before_first_step_seconds: Count | None = Field(
        None, description="Of these, before the first steps of the training's attempts."
    )
    lost_to_restarts_seconds: Count | None = Field(
        None, description="Of these, for steps that a later attempt trained again."
    )
    padding_share: Share | None = Field(None, description="Share of padding in what the latest attempt computes.")
    model_flops_utilization: Share | None = Field(
        None,
        description="Arithmetic of the model's matrices over what the accelerators could do (MFU), where their kind is "
        "known. Attention is not counted, nor what gradient checkpointing computes again.",
    )
    startup: Startup | None = Field(None, description="What the latest attempt did before its first step.")
    attempts: Annotated[tuple[AttemptUsage, ...], Field(max_length=32)] = Field(
        (), description="The last ten attempts, over all stages."
    )
    message: str | None = Field(
        None, max_length=1024, description="The largest waste, with what mends it; absent if there is none."
    )


class TrackerStatus(StatusModel):
    """A tracker of spec.training.reportTo, as the training pod of node rank 0 last told."""

    name: str = Field(min_length=1, max_length=32, description="tensorboard, mlflow or wandb.")
    url: str | None = Field(
        None, max_length=1024, description="Where the run is to be seen; of tensorboard the directory on the volume."
    )
    run_id: str | None = Field(None, max_length=128, description="The tracker's own ID of the run.")
    undelivered: Count | None = Field(
        None, description="Log lines of the training that have not reached the tracker; the pod's log says why."
    )


class Output(StatusModel):
    """A result on the volume."""

    claim_name: str | None = Field(None, max_length=253, description="PersistentVolumeClaim that holds the result.")
    path: str | None = Field(
        None,
        max_length=1100,
        description="Directory of the result, or file of the report, below the root of the volume.",
    )
    size_bytes: Count | None = Field(None, description="Size of all its files, in bytes.")
    digest: str | None = Field(
        None,
        max_length=128,
        description="sha256:<hex> over the SHA-256 of every file; of the report that of its one file. Of a trained "
        "model or adapter, while a merge is to follow, only after it.",
    )


class Outputs(StatusModel):
    """Results of the run."""

    adapter: Output | None = Field(None, description="Adapter (methods lora, qlora and dora).")
    model: Output | None = Field(None, description="Trained model (methods full and freeze).")
    merged: Output | None = Field(None, description="Merged and verified model, ready to serve.")
    report: Output | None = Field(
        None, description="Page for people, report.html: what was trained on what, and what came of it."
    )


class SourceRun(StatusModel):
    """The run whose merged model, or adapter, this one begins with, as it was when this one began."""

    name: str = Field(min_length=1, max_length=45, description="Name of the QwenSFTJob.")
    uid: str = Field(
        min_length=1, max_length=128, description="Its UID: a job that is created later under that name is another one."
    )
    claim_name: str = Field(min_length=1, max_length=253, description="PersistentVolumeClaim that holds it.")
    path: str = Field(min_length=1, max_length=1100, description="Its directory, below the root of the volume.")
    digest: str = Field(
        min_length=1, max_length=128, description="Its digest. Every attempt compares it before it uses the files."
    )


class Status(StatusModel):
    """State of the job, as last seen by the operator."""

    observed_generation: int = Field(
        -1,
        ge=-1,
        description="Generation of the spec that this status describes. -1: the operator has not seen the job yet.",
    )
    phase: Annotated[Phase | str, OpenEnum(Phase)] | None = Field(
        None, description="One word for people; programs should read the conditions, which carry the reasons."
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), UniqueBy("type")] = Field(
        (),
        description="Succeeded, Reconciling, Stalled, Suspended, Prepared, Trained, Merged. Wait with kubectl wait "
        "--for=condition=Succeeded.",
    )
    progress: Progress | None = Field(None, description="How far the training is.")
    stages: Stages = Field(Stages(), description="State of each stage.")
    dataset: DatasetStatus | None = Field(None, description="Size of the prepared data.")
    estimate: Estimate | None = Field(None, description="Memory that the training is expected to need.")
    usage: Usage | None = Field(None, description="Accelerator time of the run.")
    trackers: Annotated[tuple[TrackerStatus, ...], Field(max_length=8), UniqueBy("name")] | None = Field(
        None, description="Where the training has been reported to."
    )
    outputs: Outputs | None = Field(None, description="Results of the run.")
    source_run: SourceRun | None = Field(
        None, description="The run of spec.model.source.run; absent until that has succeeded."
    )
    adapter_run: SourceRun | None = Field(
        None, description="The run of spec.model.adapter.run; absent until that has succeeded."
    )
    configuration: str | None = Field(
        None,
        max_length=128,
        description="Digest (sha256:<16 hex digits>) of what the run has begun with and goes on with: trainer image, "
        "run.yaml and LLaMA-Factory's arguments, as they stand in ConfigMap <name>-prepare-1.",
    )
    restarts: Count | None = Field(
        None, description="Restarts of the training that counted against runPolicy.maxRestarts."
    )
    retry: int | None = Field(None, ge=0, description="The runPolicy.retry that was last acted upon.")
    start_time: Time | None = Field(None, description="When the run began; merging again begins it anew.")
    suspend_time: Time | None = Field(None, description="Since when the run is held; absent while it is not.")
    suspended_seconds: Count | None = Field(
        None,
        description="Seconds for which the run was held before, by its user, by a queue or by the wait for another "
        "run's result, left out of runPolicy.activeDeadlineSeconds.",
    )
    completion_time: Time | None = Field(None, description="When the job succeeded or failed for good.")

    @property
    def has_begun(self) -> bool:
        """Whether the run has had an attempt, be it one to prepare."""
        return self.stages.prepare is not None and self.stages.prepare.attempt is not None

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of a type, or None if it is not there."""
        return next((condition for condition in self.conditions if condition.type == type_), None)
