"""What follows a failure: another attempt after a wait, the end of the run, or a new beginning when the user asks.

The wait is a function of the stored status alone, so that neither a crash nor another leader starts an attempt early.
ADR 0003 and ADR 0004 say why.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Phase, Reason, Stage, StageStatus
from qwensft_operator.plan.causes import Cause, classify
from qwensft_operator.plan.costs import failures_in_a_row, memory_of, remembered, weighed
from qwensft_operator.plan.ending import succeeded
from qwensft_operator.plan.run import CLEAN_SLATE, Run
from qwensft_operator.plan.step import Step, fail, reopened, stage_phase, unlooked
from qwensft_operator.plan.times import timestamp
from qwensft_operator.plan.types import ChildJob, JobState

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=5)


def stage_failed(run: Run, now: datetime) -> Step | None:
    """Try a failed attempt again, or fail the run when its cause is permanent or its restarts are used up."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or child.state is not JobState.FAILED:
        return None
    cause = classify(child, run.observed.pods, remembered(run, child))
    if child.kept_by:
        cause = replace(cause, message=f"{cause.message}; {child.kept_by}")
    return retry_or_fail(run, stage, cause, child, now)


def stage_lost(run: Run, now: datetime) -> Step | None:
    """Count an attempt whose Job was deleted by somebody else as failed."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is not None or run.record(stage).job_name is None:
        return None
    if (look := unlooked(run)) is not None:
        return look
    cause = Cause(Reason.JOB_DELETED, f"Job {run.record(stage).job_name} was deleted while it ran")
    return retry_or_fail(run, stage, cause, None, now)


def backing_off(run: Run, now: datetime) -> Step | None:
    """Wait before the next attempt, with the cause of the last failure in view."""
    stage = run.current_stage
    if stage is None or run.current_child is not None:
        return None
    record = run.record(stage)
    if record.retry_time is None or now >= record.retry_time:
        return None
    status = run.status
    if record.retry_time - now > 2 * _base_wait(record.consecutive_failures):
        # No wait that was ever given is so long: the clock has been set back since. It begins anew.
        status = run.recorded(stage, retry_time=now + _wait(run, stage, record.consecutive_failures, record.reason))
    waiting = Run(run.observed, status=status).record(stage)
    left = ((waiting.retry_time or now) - now).total_seconds()
    reason = record.reason or Reason.STARTING
    return Step(stage_phase(run, stage), reason, _message(waiting), status, warning=True, requeue_after=left)


def retry_requested(run: Run, now: datetime) -> Step | None:
    """Start a failed run again when spec.runPolicy.retry changes: from the stage that failed, with all its restarts."""
    policy = run.job.spec.run_policy
    failed = run.finished and run.status.phase is Phase.FAILED
    if not failed or policy.suspend or policy.retry in (None, run.status.retry):
        return None
    again = Run(run.observed, status=reopened(run.status, now).replace(retry=policy.retry))
    stage = again.current_stage
    if stage is None:
        return succeeded(again, now)  # the stage that failed is not asked for any more
    child, record = again.current_child, again.record(stage)
    # One that is complete and going might be gone in the next pass, and then be taken for lost.
    over = record.job_name is not None if child is None else child.state is not JobState.COMPLETE or child.deleting
    over = over or (child is not None and record.failed_attempt == child.attempt)
    # A number that was reserved is still free; a Job that completed after the end has done the stage's work.
    status = again.reserved(stage, **CLEAN_SLATE) if over else again.recorded(stage, **CLEAN_SLATE)
    if stage is Stage.TRAIN:
        status = status.replace(restarts=None)
    phase = stage_phase(Run(run.observed, status=status), stage)
    message = f"spec.runPolicy.retry changed: starting again with the stage {stage}"
    return Step(phase, Reason.RETRY_REQUESTED, message, status, requeue_after=0)


def retry_or_fail(run: Run, stage: Stage, cause: Cause, child: ChildJob | None, now: datetime) -> Step:
    """Reserve the next attempt, to start after a wait, or end the run: by what the cause costs."""
    cause = weighed(run, stage, cause, child)
    before = run.record(stage).restarts
    restarts = (before or 0) + 1 if cause.counted else before
    allowed = run.allowed_restarts(stage)
    if cause.permanent:
        return fail(_ended(run, stage), cause)
    if cause.counted and (restarts or 0) > allowed:
        limit = "spec.runPolicy.maxRestarts" if stage is Stage.TRAIN else f"spec.{stage}.retries"
        given_up = f"{cause.message.rstrip('.')}; gave up after {allowed} restarts ({limit})"
        return fail(_ended(run, stage), replace(cause, message=given_up))
    failures = failures_in_a_row(run.record(stage), child)
    wait = _wait(run, stage, failures, cause.reason)
    # Reserve first, create in a later pass: a crash in between can neither skip nor double-count an attempt.
    status = run.reserved(
        stage, restarts=restarts, consecutive_failures=failures, retry_time=now + wait,
        reason=cause.reason, message=cause.message, failed_attempt=run.record(stage).attempt or 1,
        **memory_of(run, stage, cause, child),
    )  # fmt: skip
    if stage is Stage.TRAIN:
        status = status.replace(restarts=restarts)
    reserved = Run(run.observed, status=status)
    return Step(
        stage_phase(reserved, stage), cause.reason, _message(reserved.record(stage)), status,
        warning=True, requeue_after=0 if run.active_children() else wait.total_seconds(),
    )  # fmt: skip


def _ended(run: Run, stage: Stage) -> Run:
    """Return the run with its attempt known to have failed, whatever its Job says: a retry takes the next number."""
    status = run.recorded(stage, failed_attempt=run.record(stage).attempt or 1)
    return Run(run.observed, status=status, just_done=run.just_done, report=run.report)


def _base_wait(failures: int | None) -> timedelta:
    """Return the wait after so many failures in a row, before it is spread; None: nobody knows how many."""
    return LONGEST_WAIT if failures is None else min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT)


def _wait(run: Run, stage: Stage, failures: int | None, reason: str | None) -> timedelta:
    """Return the wait before the next attempt, at most twice the base one."""
    wait = _base_wait(failures)
    # Runs that gave way to each other must not come back together.
    return wait * (1 + _spread(run, stage)) if reason == Reason.HALF_SCHEDULED else wait


def _spread(run: Run, stage: Stage) -> float:
    """Return a number from 0 to 1, another one for each run and attempt, and the same whoever asks."""
    text = f"{run.job.metadata.uid}/{stage}/{run.record(stage).attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2]) / 2**16


def _message(record: StageStatus) -> str:
    message = record.message or ""
    if record.retry_time is None:
        return message
    return f"{message.rstrip('.')}; attempt {record.attempt} starts at {timestamp(record.retry_time)}"
