"""A gang that is not whole: it holds what others need, and gives it back.

ADR 0103 says why.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Reason, Stage
from qwensft_operator.plan.causes import Cause, has_failed
from qwensft_operator.plan.retry import retry_or_fail
from qwensft_operator.plan.run import UNTROUBLED, Run
from qwensft_operator.plan.step import Step, stage_phase
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
    lacking = (pod.unschedulable or ", ".join(pod.gates) for pod in run.observed.pods)
    why = next((f": {words}" for words in lacking if words), "")
    message = (
        f"{placed} of {wanted} pods of Job {child.name} held nodes for {limit} s (spec.runPolicy.startTimeoutSeconds) "
        f"while the others had none{why}; they give them back"
    )
    step = retry_or_fail(run, Stage.TRAIN, Cause(Reason.HALF_SCHEDULED, message, counted=False), child, now)
    return replace(step, requeue_after=0)  # the pods are stopped at once, not after the wait


def half_done(run: Run, _: datetime) -> Step | None:
    """Give up, uncounted, a gang of which some pods had ended well when it was held.

    Kubernetes keeps count of them also over a hold, and makes only the others anew: these would wait for them in vain.
    """
    stage, child = run.current_stage, run.current_child
    if stage is not Stage.TRAIN or child is None or child.deleting or child.state is not JobState.RUNNING:
        return None
    begun, wanted = child.started_at, run.pods_of(stage)
    over = (pod.finished_at for pod in run.observed.pods if pod.phase == "Succeeded")
    was_held = child.suspended or any(at is not None and begun is not None and at < begun for at in over)
    if not was_held or not 0 < child.succeeded < wanted:
        return None
    message = (
        f"{child.succeeded} of {wanted} pods of Job {child.name} had ended well when somebody held it, and Kubernetes "
        "would make only the others anew: making the Job anew"
    )
    status = run.reserved(stage, **UNTROUBLED)
    return Step(stage_phase(run, stage), Reason.INTERRUPTED, message, status, requeue_after=0)


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
