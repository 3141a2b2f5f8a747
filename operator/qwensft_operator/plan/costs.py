"""What a failure costs: whether it counts, and whether another attempt can help, by what the stage's record remembers.

`causes` finds the cause in what one attempt has left. What only two attempts together can tell is here.
ADR 0102 says why.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from qwensft.api.v1alpha1 import Exhaustion, Reason, Stage, StageStatus
from qwensft_operator.plan.causes import NEVER_RAN, RESOURCES, Cause
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import LARGEST_NUMBER, ChildJob

HEALTHY = timedelta(minutes=10)  # an attempt that lasted longer than this was no part of a loop
_UNCOUNTED = {Reason.PREEMPTED, Reason.NODE_LOST, Reason.POD_REJECTED, Reason.START_MISMATCH}


def remembered(run: Run, child: ChildJob) -> Cause | None:
    """Return what was seen of the attempt's end while its pods were still there."""
    record = run.record(child.stage)
    if record.failed_attempt != child.attempt or record.reason not in set(Reason):
        return None
    reason = Reason(record.reason)
    message = record.message or ""
    return Cause(reason, message, counted=reason not in _UNCOUNTED and not message.endswith(NEVER_RAN))


def weighed(run: Run, stage: Stage, cause: Cause, child: ChildJob | None) -> Cause:
    """Return the cause with what it costs."""
    record, step = run.record(stage), step_of(run, stage)
    if cause.reason is Reason.INTERRUPTED:
        # Somebody told the pod to stop, and it has saved: no fault of the run's, as long as it gets on. Only training
        # holds accelerators, for which a loop without progress is too dear.
        got_on = stage is not Stage.TRAIN or (step or 0) > (record.stopped_step or 0)
        return replace(cause, counted=cause.counted and not got_on)
    if cause.reason is Reason.START_MISMATCH:
        # Nothing was trained; but what comes at once again is no accident, as where nodes see different volumes.
        return replace(cause, counted=failures_in_a_row(record, child) > 1)
    before = record.out_of_memory
    if cause.reason is not Reason.OUT_OF_MEMORY or before is None or child is None:
        return cause
    if (before.made_from or "") != child.made_from or (step or 0) > (before.step or 0):
        return cause
    where = f"{'about ' if _uncertainty(run) else ''}step {step}" if step else "the same place"
    message = (
        f"{cause.message}; it is the second time at {where}, so a third attempt would end there, too. Change "
        f"{RESOURCES[stage]}, and then spec.runPolicy.retry; the settings of the training need a new QwenSFTJob"
    )
    return replace(cause, message=message, permanent=True)


def failures_in_a_row(record: StageStatus, child: ChildJob | None) -> int:
    """Count this failure, and those before it unless the attempt had been going well: also the uncounted ones.

    An eviction costs no restart, but a node that evicts every pod within seconds must not be fed attempts as fast.
    """
    lasted = None if child is None or child.finished_at is None else child.finished_at - child.begun_at
    healthy = lasted is not None and lasted > HEALTHY
    return 1 if healthy else (record.consecutive_failures or 0) + 1


def memory_of(run: Run, stage: Stage, cause: Cause, child: ChildJob | None) -> dict[str, Any]:
    """Return the changes of the stage's record by which the next failure is weighed."""
    step = step_of(run, stage)
    changes: dict[str, Any] = {"stopped_step": step} if stage is Stage.TRAIN else {}
    if cause.reason is Reason.OUT_OF_MEMORY and child is not None:
        # The furthest place that it can have been: whoever comes past that has clearly come further.
        furthest = None if step is None else min(step + _uncertainty(run), LARGEST_NUMBER)
        changes["out_of_memory"] = Exhaustion(step=furthest, made_from=child.made_from or None)
    return changes


def step_of(run: Run, stage: Stage) -> int | None:
    """Return how far the training is: as its pods say in the end, else as it was last scraped, else as it was told."""
    if stage is not Stage.TRAIN:
        return None
    record, last = run.record(stage), run.observed.last_step
    known = run.status.progress.step if run.status.progress else None
    exact = _reported(run)
    if known is not None and record.failed_attempt == (record.attempt or 1):
        exact.append(known)  # told when the attempt began to fail, by pods that may be gone
    return max(exact, default=last.step if last else known)


def _uncertainty(run: Run) -> int:
    """Return how many steps the training may have been further than `step_of` says: until the next scrape."""
    last, progress = run.observed.last_step, run.status.progress
    if _reported(run):
        return 0
    if last is not None and last.apart is not None:
        return max(last.apart, 1)
    return max(((progress and progress.total_steps) or 0) // 100, 1)


def _reported(run: Run) -> list[int]:
    reports = (pod.report.metrics or {} for pod in run.observed.pods if pod.report)
    return [int(metrics["step"]) for metrics in reports if metrics.get("step", -1) >= 0]
