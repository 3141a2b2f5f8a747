"""A readable view of one observation: what the policies ask of a run, answered from status and child Jobs.

Holds no decisions. `harvest` folds the result of a completed child Job into the view, so that every policy sees it.
ADR 0002 says why.
ADR 0077 says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from qwensft.api.v1alpha1 import ConditionType, DatasetStatus, Output, Outputs, QwenSFTJob, Stage, StageStatus, Status
from qwensft_operator.plan import merge_progress, progress
from qwensft_operator.plan.text import clean
from qwensft_operator.plan.types import ChildJob, JobState, Observed, Report

DONE_CONDITION = {
    Stage.PREPARE: ConditionType.PREPARED,
    Stage.TRAIN: ConditionType.TRAINED,
    Stage.MERGE: ConditionType.MERGED,
}

UNTROUBLED: dict[str, Any] = dict.fromkeys(
    ("consecutive_failures", "retry_time", "reason", "message", "failed_attempt")
)
"""What becomes of the traces of a failure in a stage's record when the next attempt has nothing to do with it."""
UNBURDENED: dict[str, Any] = UNTROUBLED | dict.fromkeys(("stopped_step", "out_of_memory"))
"""The same, and what the next failure would be judged by: for a stage that is done."""
CLEAN_SLATE: dict[str, Any] = UNBURDENED | {"restarts": None}
"""The same, and all restarts given back: for a user who asks for the stage again."""


class Run:
    """One observation of one QwenSFTJob.

    `status` is what the next status is built from: the stored one, until `harvest` adds to it. `just_done` holds the
    stages that completed since the last status write, each with a message; `report` is what the pod of such a stage
    has left.
    """

    def __init__(
        self,
        observed: Observed,
        *,
        status: Status | None = None,
        just_done: dict[Stage, str] | None = None,
        report: Report | None = None,
    ) -> None:
        self.observed = observed
        self.status = observed.job.status if status is None else status
        self.just_done = just_done or {}
        self.report = report

    @property
    def job(self) -> QwenSFTJob:
        """The custom resource."""
        return self.observed.job

    @property
    def finished(self) -> bool:
        """The terminal latch: set with the terminal status, and never cleared but to merge again."""
        return self.status.completion_time is not None

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that the spec asks for, in order."""
        return tuple(s for s in Stage if s is not Stage.MERGE or self.job.spec.merge.enabled)

    @cached_property
    def done(self) -> frozenset[Stage]:
        """Stages that have completed: those whose record has a completion time. Conditions only repeat it."""
        return frozenset(stage for stage in Stage if self.record(stage).completion_time is not None)

    @property
    def prepared_model(self) -> dict[str, Any] | None:
        """Measures of the base model, in the pass in which prepare is done; None in any other."""
        return self.report.model if self.report else None

    @property
    def current_stage(self) -> Stage | None:
        """The first stage that is not done; None when all are, or the run has ended."""
        return None if self.finished else next((s for s in self.stages if s not in self.done), None)

    @property
    def current_child(self) -> ChildJob | None:
        """The child Job of the current stage's current attempt, if it exists."""
        stage = self.current_stage
        return None if stage is None else self.child(stage, self.record(stage).attempt or 1)

    @cached_property
    def merge_hash(self) -> str:
        """Identifies what spec.merge asks for, so that an edit is seen (16 hex digits).

        Only what the user wrote counts: a default that a newer operator adds must not merge every old run again. Nor
        does switching the merge off and on change what it makes.
        """
        wanted = {name: value for name, value in self.job.spec.merge.document().items() if name != "enabled"}
        asked = json.dumps(wanted, sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def merge_outdated(self) -> bool:
        """A trained run whose merged model is not the one that spec.merge asks for now."""
        wanted = Stage.MERGE in self.stages and Stage.TRAIN in self.done
        return wanted and self.record(Stage.MERGE).spec_hash != self.merge_hash

    def pods_of(self, stage: Stage) -> int:
        """How many pods the stage runs."""
        return self.job.spec.distribution.nodes if stage is Stage.TRAIN else 1

    def allowed_restarts(self, stage: Stage) -> int:
        """How many counted failures the stage may have before the run fails."""
        spec = self.job.spec
        return {
            Stage.PREPARE: spec.prepare.retries,
            Stage.TRAIN: spec.run_policy.max_restarts,
            Stage.MERGE: spec.merge.retries,
        }[stage]

    def record(self, stage: Stage) -> StageStatus:
        """The durable record of a stage."""
        return getattr(self.status.stages, stage.value) or StageStatus()

    def recorded(self, stage: Stage, **changes: Any) -> Status:
        """The status with a stage's record changed."""
        record = self.record(stage).replace(**changes)
        stages = self.status.stages.replace(**{stage.value: record})
        return self.status.replace(stages=stages)

    def reserved(self, stage: Stage, **changes: Any) -> Status:
        """The status with the stage's next attempt reserved: a number that no Job has yet."""
        attempt = (self.record(stage).attempt or 1) + 1
        return self.recorded(stage, attempt=attempt, job_name=None, **merge_progress.UNWRITTEN, **changes)

    def merge_noted(self) -> Status:
        """The status with what spec.merge asks for now in the merge's record, under a number that asks nothing else."""
        record = self.record(Stage.MERGE)
        if record.spec_hash == self.merge_hash:
            return self.status
        attempt = record.attempt or 1
        # The attempt's ConfigMap is immutable: one that exists says what spec.merge said before.
        stale = self.child_name(Stage.MERGE, attempt) in self.observed.config_maps
        stale = stale or self.child(Stage.MERGE, attempt) is not None
        return self.recorded(
            Stage.MERGE, attempt=attempt + 1 if stale else attempt, job_name=None, spec_hash=self.merge_hash
        )

    def child(self, stage: Stage, attempt: int) -> ChildJob | None:
        """The child Job of an attempt, if it exists."""
        return next((c for c in self.observed.children if c.stage is stage and c.attempt == attempt), None)

    def child_name(self, stage: Stage, attempt: int) -> str:
        """The name that an attempt's Job and ConfigMap share."""
        return f"{self.job.metadata.name}-{stage.value}-{attempt}"

    def active_children(self) -> tuple[ChildJob, ...]:
        """Child Jobs that may still have pods."""
        # Kubernetes calls a Job complete or failed only once all its pods have ended.
        active = (JobState.RUNNING, JobState.FAILING)
        return tuple(c for c in self.observed.children if c.state in active or c.kept_by)

    def is_up(self, child: ChildJob) -> bool:
        """Whether all pods of a running child Job are ready, or done already."""
        return child.state is JobState.RUNNING and child.ready + child.succeeded >= self.pods_of(child.stage)

    def is_through(self, child: ChildJob) -> bool:
        """Whether all pods of a running child Job have ended well: Kubernetes is about to call it complete."""
        return child.state is JobState.RUNNING and child.succeeded >= self.pods_of(child.stage)


def harvest(run: Run, now: datetime) -> Run:
    """Fold a completed child Job of the current stage into the status. Its pod may be gone; the volume keeps all."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or child.state is not JobState.COMPLETE:
        return run
    reports = [p.report for p in run.observed.pods if p.report and p.report.outcome == "Succeeded"]
    # Node rank 0 holds the figures; reports of other ranks carry none.
    report = next((r for r in reports if r.metrics or r.outputs), Report("Succeeded"))
    metrics, outputs = report.metrics or {}, _outputs(run, report)

    status = run.recorded(
        stage, **UNBURDENED, job_name=child.name, attempt=child.attempt, completion_time=child.finished_at or now
    )
    update: dict[str, Any] = {}
    if stage is Stage.PREPARE:
        update["dataset"] = data = _dataset(metrics)
        message = "; ".join([_counted(data or DatasetStatus()), *(f"warning: {w}" for w in report.warnings)])
    elif stage is Stage.TRAIN:
        update["progress"] = final = progress.final(status.progress, metrics, now)
        message = progress.summary(final)
    else:
        merged = merge_progress.final(Run(run.observed, status=status).record(stage), metrics)
        update["stages"] = status.stages.replace(merge=merged)
        passed = f"the merged model passed the verification ({run.job.spec.merge.verify})"
        message = "; ".join(filter(None, [passed, report.message]))
    if outputs:
        update["outputs"] = (status.outputs or Outputs()).replace(**outputs)
        told = run.status.outputs or Outputs()  # the merge repeats what the training has made, with its digest
        new = [f"{name} at {o.path}" for name, o in sorted(outputs.items()) if not _is_known(told, name, o)]
        message = "; ".join(filter(None, [message, ", ".join(new)]))
    return Run(run.observed, status=status.replace(**update), just_done={stage: message}, report=report)


def _is_known(told: Outputs, name: str, output: Output) -> bool:
    known = getattr(told, name)
    return known is not None and known.path == output.path


def _dataset(metrics: dict[str, float]) -> DatasetStatus | None:
    """Return what prepare counted; a figure that makes no sense is left out."""
    counts = {
        name: int(metrics[field.alias or name])
        for name, field in DatasetStatus.model_fields.items()
        if metrics.get(field.alias or name, -1) >= 0
    }
    return DatasetStatus(**counts) if counts else None


def _counted(data: DatasetStatus) -> str:
    """One phrase: how many samples, of how many tokens, how many of them cut."""
    parts = [f"{_or(data.samples, 'all')} samples", f"{_or(data.tokens, 'an unknown number of')} tokens"]
    if data.eval_samples:
        parts.append(f"{data.eval_samples} samples to evaluate on")
    if data.truncated_samples:
        longest = "" if data.length_max is None else f" (the longest has {data.length_max} tokens)"
        parts.append(f"{data.truncated_samples} cut off at spec.training.cutoffLen{longest}")
    return ", ".join(parts)


def _or(count: int | None, words: str) -> str:
    return words if count is None else str(count)


def _outputs(run: Run, report: Report) -> dict[str, Output]:
    """Return what a stage left on the volume; an entry that makes no sense is left out."""
    found = {}
    for name, value in (report.outputs or {}).items():
        if name in Outputs.model_fields and isinstance(value, dict):
            with contextlib.suppress(ValidationError):
                output = Output.model_validate({**value, "claimName": run.job.workspace_claim})
                if output.path is not None and clean(output.path) == output.path:
                    found[name] = output
    return found
