"""An attempt whose pods are not all up: what is told of it, and how an edit of the spec still reaches it.

What keeps pods from starting is found in `startup` and `volumes`.
ADR 0101 says why.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from qwensft.api.v1alpha1 import Reason, Stage, editable_digest
from qwensft_operator.plan.causes import Cause, Pods, has_failed, wanted_now
from qwensft_operator.plan.queueing import going_on
from qwensft_operator.plan.references import absent_hint
from qwensft_operator.plan.run import UNTROUBLED, Run
from qwensft_operator.plan.startup import diagnose, readiness
from qwensft_operator.plan.step import LOOK_AGAIN, Step, repairs, stage_phase
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.plan.volumes import one_node_hint, storage_trouble


def edited(run: Run, now: datetime) -> Step | None:
    """Give an attempt up, uncounted, that was made from an older spec and has not started."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or child.deleting or child.state is not JobState.RUNNING:
        return None
    if child.made_from in ("", editable_digest(run.job.spec, stage)) or not _can_still_change(run, child, now):
        return None
    message = f"the spec was edited before the pods of Job {child.name} had started: making the Job anew"
    status = run.reserved(stage, **UNTROUBLED)
    return Step(stage_phase(run, stage), Reason.SPEC_CHANGED, message, status, requeue_after=0)


def outdated(run: Run, _: datetime) -> Step | None:
    """Give a number up, uncounted, whose ConfigMap says what an older spec said, as when a quota refused its Job.

    That of a training says nothing that may be edited, and for a merge `Run.merge_noted` sees to it.
    """
    stage = run.current_stage
    if stage is not Stage.PREPARE or run.current_child is not None:
        return None
    if run.observed.config_map_from in ("", editable_digest(run.job.spec, stage)):
        return None
    name = run.child_name(stage, run.record(stage).attempt or 1)
    message = f"the spec was edited before Job {name} could be made: making the attempt anew"
    status = run.reserved(stage, **UNTROUBLED)
    return Step(stage_phase(run, stage), Reason.SPEC_CHANGED, message, status, requeue_after=0)


def stage_starting(run: Run, now: datetime) -> Step | None:
    """Say what keeps the running attempt's pods from starting, or how many have."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or run.is_up(child):
        return None
    cause = _hindrance(run, child, run.observed.pods, now)
    shown = cause or Cause(Reason.PODS_STARTING, readiness(child.name, child.ready, run.pods_of(stage)))
    return Step(
        stage_phase(run, stage),
        shown.reason,
        shown.message,
        going_on(run, stage, child),
        repairs(run, stage, child),
        warning=cause is not None,
        requeue_after=LOOK_AGAIN,  # a refused pod or volume is told in events, and no watch tells of these
    )


def _can_still_change(run: Run, child: ChildJob, now: datetime) -> bool:
    """Whether no pod runs yet, or one cannot start, so that those that run only wait for it.

    What is wrong with a pod that runs, such as a node that does not answer for a moment, is no reason: it trains.
    """
    pods = run.observed.pods
    if run.is_up(child) or any(map(has_failed, wanted_now(child, pods))):
        return False
    waiting = tuple(pod for pod in pods if pod.phase == "Pending")
    return len(waiting) == len(pods) or _hindrance(run, child, waiting, now) is not None


def _hindrance(run: Run, child: ChildJob, pods: Pods, now: datetime) -> Cause | None:
    """Return what keeps these pods of the attempt from starting, or missing ones from being made; None if nothing does.

    The message names the fields to change.
    """
    others = len(run.observed.pods) - len(pods)
    cause = diagnose(
        child,
        pods,
        wanted=run.pods_of(child.stage) - others,
        now=now,
        creation_failures=run.observed.creation_failures,
        storage=storage_trouble(run, now),
    )
    if cause is None:
        return None
    of_volume = cause.reason is Reason.VOLUME_MOUNT_FAILED or "volume" in cause.message
    hints = (one_node_hint(run) if of_volume else "") + absent_hint(run, cause.message)
    return replace(cause, message=cause.message + hints)
