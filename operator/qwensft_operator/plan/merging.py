"""Merging anew when `spec.merge` changes, and knowing by what a merge was asked for whether it has.

ADR 0008 says why.
"""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import Phase, Reason, Stage
from qwensft_operator.plan.merge_progress import UNWRITTEN
from qwensft_operator.plan.run import CLEAN_SLATE, Run
from qwensft_operator.plan.step import Step, reopened
from qwensft_operator.plan.types import JobState


def merge_again(run: Run, now: datetime) -> Step | None:
    """Merge a trained run anew when spec.merge has changed since its last merge began, however that one ended."""
    child, suspend = run.current_child, run.job.spec.run_policy.suspend
    failed = child is not None and child.stage is Stage.MERGE and child.state is JobState.FAILED
    over = run.finished or failed or Stage.MERGE in run.done
    if not (over and run.merge_outdated) or (run.finished and suspend):
        return None
    attempt = (run.record(Stage.MERGE).attempt or 0) + 1
    status = run.recorded(
        Stage.MERGE, **CLEAN_SLATE, attempt=attempt, job_name=None,
        start_time=None, completion_time=None, spec_hash=run.merge_hash, **UNWRITTEN,
    )  # fmt: skip
    return Step(
        Phase.MERGING, Reason.MERGE_CHANGED, "spec.merge changed: merging again",
        reopened(status, now) if run.finished else status,
        requeue_after=0,
    )  # fmt: skip


def merge_unrecorded(run: Run, _: datetime) -> Step | None:
    """Record what the merge is about to be asked for, before it is: an edit at any later moment is then seen."""
    if run.current_stage is not Stage.MERGE or run.current_child is not None:
        return None
    if run.record(Stage.MERGE).spec_hash == run.merge_hash:
        return None
    status = run.merge_noted()
    attempt = Run(run.observed, status=status).record(Stage.MERGE).attempt or 1
    message = f"starting Job {run.child_name(Stage.MERGE, attempt)}"
    return Step(Phase.MERGING, Reason.STARTING, message, status, requeue_after=0)
