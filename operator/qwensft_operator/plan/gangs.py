"""A gang of which only some pods have nodes: it holds what others need, and gives it back after a while.

ADR 0103 says why.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Reason, Stage
from qwensft_operator.plan.causes import Cause, has_failed
from qwensft_operator.plan.retry import retry_or_fail
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import Step
from qwensft_operator.plan.times import has_lasted
from qwensft_operator.plan.types import JobState, Observed


def half_scheduled(run: Run, now: datetime) -> Step | None:
    """Give up, uncounted, an attempt whose pods have held nodes for too long while others of them have none."""
    child, limit = run.current_child, run.job.spec.run_policy.start_timeout_seconds
    if child is None or child.stage is not Stage.TRAIN or child.deleting or child.state is not JobState.RUNNING:
        return None
    wanted, since = run.pods_of(child.stage), _holds_since(run.observed, run.pods_of(child.stage))
    if limit == 0 or run.is_up(child) or since is None:
        return None
    if not has_lasted(since, timedelta(seconds=limit), now):
        return None
    placed = sum(bool(pod.node) for pod in run.observed.pods)
    why = next((f": {pod.unschedulable}" for pod in run.observed.pods if pod.unschedulable), "")
    message = (
        f"{placed} of {wanted} pods of Job {child.name} held nodes for {limit} s (spec.runPolicy.startTimeoutSeconds) "
        f"while the others had none{why}; they give them back"
    )
    step = retry_or_fail(run, Stage.TRAIN, Cause(Reason.HALF_SCHEDULED, message, counted=False), child, now)
    return replace(step, requeue_after=0)  # the pods are stopped at once, not after the wait


def _holds_since(observed: Observed, wanted: int) -> datetime | None:
    """Return since when some pods have nodes that are of no use without the rest; None while all have one, or none.

    A pod that is not there yet lacks no node unless Kubernetes says that it cannot be made: so begins every gang, and
    so does one anew whose pods a queue has had stopped.
    """
    pods = observed.pods
    lacking = any(not pod.node for pod in pods) or (len(pods) < wanted and observed.creation_failures)
    if not lacking or any(has_failed(pod) or pod.deleted_at is not None for pod in pods):
        return None
    return min((pod.scheduled_at for pod in pods if pod.node and pod.scheduled_at is not None), default=None)
