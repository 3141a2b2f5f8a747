"""Holding a run: what `spec.runPolicy.suspend` stops, and how the time that it takes is kept out of the deadline.

ADR 0007 says why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import Phase, Reason, Stage, Status
from qwensft_operator.plan.run import UNTROUBLED, Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, deletions
from qwensft_operator.plan.types import JobState
from qwensft_operator.plan.unclosed import hold_up


def suspended(run: Run, now: datetime) -> Step | None:
    """Hold every stage: stop what runs, gracefully, and reserve the attempt that resume will start, uncounted."""
    stage, child = run.current_stage, run.current_child
    if not run.job.spec.run_policy.suspend or stage is None:
        return None
    stopping = run.active_children()
    names = ", ".join(c.name for c in stopping)
    message = f"stopping {names}" + ("; the training saves a checkpoint first" if stage is Stage.TRAIN else "")
    lost = child is None and run.record(stage).job_name is not None
    if lost or (child is not None and child.state is JobState.RUNNING):
        # The number is given up before the Job is stopped: from here on, its end is no failure, whatever happens.
        status = run.reserved(stage, **UNTROUBLED)
        return Step(Phase.SUSPENDED, Reason.SUSPENDING, message, status, requeue_after=0)
    if stopping:
        cause = hold_up(run, child or stopping[0], now)
        # A failing Job stops by itself, and then tells why.
        return Step(
            Phase.SUSPENDED,
            cause.reason if cause else Reason.SUSPENDING,
            cause.message if cause else message,
            run.status,
            deletions(c for c in stopping if c != child),
            warning=cause is not None,
            requeue_after=LOOK_AGAIN,
        )
    message = "spec.runPolicy.suspend is true; set it to false to go on"
    return Step(Phase.SUSPENDED, Reason.SUSPENDED, message, run.status)


def seconds_active(status: Status, now: datetime) -> int:
    """Return how long the run has been going, in seconds, without the time for which it was held."""
    if status.start_time is None:
        return 0
    held = status.suspended_seconds or 0
    since = now if status.suspend_time is None else status.suspend_time
    return int((now - status.start_time).total_seconds() - held - (now - since).total_seconds())


def anchored(status: Status, now: datetime) -> Status:
    """Return the status with the run's time begun anew where it would be less than none: a clock was set back.

    So a deadline comes late by no more than the run had used up of it.
    """
    if status.start_time is None or status.completion_time is not None or seconds_active(status, now) >= 0:
        return status
    return status.replace(start_time=status.suspend_time or now, suspended_seconds=None)


def timed(status: Status, now: datetime, *, holds: bool) -> dict[str, Any]:
    """Return the changes of the status that keep count of the time held: a hold begins, goes on, or is over."""
    since = status.suspend_time
    if holds:
        return {"suspend_time": since or now}
    if since is None:
        return {}
    held = (status.suspended_seconds or 0) + max(0, int((now - since).total_seconds()))
    return {"suspend_time": None, "suspended_seconds": held}
