"""Jobs whose work is over and that are not: a sidecar keeps their pods, or nobody counts these, or lets them go.

A sidecar that outlives the trainer holds nothing of the run's: what it has done is on the volume, and its report in the
pod's status. So the attempt counts as ended, and its Job is deleted once that is written.
ADR 0107 says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan.causes import Cause, Pods, has_failed, is_over, pod_title
from qwensft_operator.plan.lost_nodes import lost_node, unconfirmed_end
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, adopted, stage_phase
from qwensft_operator.plan.times import has_lasted
from qwensft_operator.plan.types import ChildJob, JobState, PodView

# A sidecar that watches its pod ends by itself within this; so does the Job controller with what it has to count.
PATIENCE = timedelta(seconds=30)

_JOB_TRACKING = "batch.kubernetes.io/job-tracking"
_KEEP_OUT = (
    'keep it out of these pods (Istio: the label sidecar.istio.io/inject: "false" in spec.worker.podLabels), or have '
    "it injected as a native sidecar (an init container with restartPolicy: Always), which ends with the trainer"
)


def without_sidecars(run: Run, now: datetime) -> Run:
    """Return the run with its current attempt ended, where nothing but sidecars has been left of it for a while."""
    child = run.current_child
    if child is None or child.state is not JobState.RUNNING or child.deleting:
        return run
    kept = [pod for pod in run.observed.pods if _is_kept(pod)]
    failed = [pod for pod in kept if pod.exit_code]
    if not kept or not (failed or _all_done(run, child)):
        return run
    ended = _ended_at(failed or run.observed.pods)
    if ended is None or not has_lasted(ended, PATIENCE, now):
        return run
    over = replace(
        child, state=JobState.FAILED if failed else JobState.COMPLETE, finished_at=ended, kept_by=_words(child, kept[0])
    )
    children = tuple(over if c == child else c for c in run.observed.children)
    return Run(replace(run.observed, children=children), status=run.status)


def sidecar_left(run: Run, _: datetime) -> Step | None:
    """Write down what an attempt has achieved, before its Job is stopped like one of an earlier attempt."""
    stage, kept = run.current_stage, next((c for c in run.observed.children if c.kept_by), None)
    if stage is None or kept is None:
        return None
    message = f"{kept.kept_by}; Job {kept.name} is deleted, and the run goes on"
    return Step(stage_phase(run, stage), Reason.SIDECAR_RUNNING, message, run.status, warning=True, requeue_after=0)


def sidecar_running(run: Run, _: datetime) -> Step | None:
    """Say which container keeps a Job going whose trainers have all ended well."""
    stage, child = run.current_stage, run.current_child
    kept = [pod for pod in run.observed.pods if _is_kept(pod)]
    if stage is None or child is None or not kept or not _all_done(run, child):
        return None
    message = f"{_words(child, kept[0])}. Unless it ends within {PATIENCE.seconds} seconds, the run goes on without it"
    status = adopted(run, stage, child)
    return Step(
        stage_phase(run, stage), Reason.SIDECAR_RUNNING, message, status, warning=True, requeue_after=LOOK_AGAIN
    )


def job_stuck(run: Run, now: datetime) -> Step | None:
    """Say why a Job goes on whose pods have all ended."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or len(run.observed.pods) < run.pods_of(stage):
        return None
    cause = stuck(run, child, now)
    if cause is None:
        return None
    status = adopted(run, stage, child)
    return Step(stage_phase(run, stage), cause.reason, cause.message, status, warning=True, requeue_after=LOOK_AGAIN)


def hold_up(run: Run, child: ChildJob, now: datetime) -> Cause | None:
    """Return what keeps a Job that is to end from ending; None while that may still be a matter of moments."""
    return lost_node(child, run.observed.pods, now) or stuck(run, child, now)


def stuck(run: Run, child: ChildJob, now: datetime) -> Cause | None:
    """Return what holds a Job of which all pods have ended a while ago."""
    pods = run.observed.pods
    ended = _ended_at(pods) if all_over(pods) else None
    if ended is None or not has_lasted(max(ended, child.finished_at or ended), PATIENCE, now):
        return None
    tracked = next((pod for pod in pods if _JOB_TRACKING in pod.finalizers), None)
    others = next((pod for pod in pods if pod.finalizers and pod is not tracked), None)
    unconfirmed = unconfirmed_end(pods, run.job.metadata.namespace, now)
    if tracked is not None:
        why = (
            f"its controller cannot take the finalizer {_JOB_TRACKING} off pod {tracked.name}. Mostly an admission "
            "policy or webhook refuses updates of pods: have it let kube-controller-manager (the service account "
            "kube-system/job-controller) update them"
        )
    elif others is not None and child.deleting:
        why = (
            f"pod {others.name} is held by its finalizers ({', '.join(others.finalizers)}): mend the controller that "
            "they belong to"
        )
    elif unconfirmed and child.deleting:
        why = unconfirmed
    else:
        why = "its controller does not say so: see whether kube-controller-manager runs"
    message = (
        f"all pods of Job {child.name} have ended, and Kubernetes does not end the Job: {why}; then the run goes on"
    )
    return Cause(Reason.JOB_STUCK, message, counted=False)


def all_over(pods: Pods) -> bool:
    """Whether no container of the pods runs any more."""
    return all(is_over(pod) for pod in pods)


def _is_kept(pod: PodView) -> bool:
    """Whether the trainer has ended, and other containers have not, although nobody has told the pod to stop."""
    return pod.exit_code is not None and not is_over(pod) and bool(pod.sidecars) and pod.deleted_at is None


def _all_done(run: Run, child: ChildJob) -> bool:
    pods = run.observed.pods
    return len(pods) >= run.pods_of(child.stage) and all(p.exit_code == 0 and not has_failed(p) for p in pods)


def _ended_at(pods: Iterable[PodView]) -> datetime | None:
    """Return when the last of them ended; None if nothing is known of the time of one."""
    times = [_end_of(pod) for pod in pods]
    return None if not times or None in times else max(time for time in times if time is not None)


def _end_of(pod: PodView) -> datetime | None:
    """Return when a pod ended, or, of one that tells no time, as after a rejection, the last moment known of it."""
    known = (moment for moment in (pod.created_at, pod.scheduled_at, pod.deleted_at) if moment is not None)
    return pod.finished_at or pod.disrupted_at or max(known, default=None)


def _words(child: ChildJob, pod: PodView) -> str:
    containers = " and ".join(pod.sidecars)
    return f"the trainer in {pod_title(child, pod)} has ended, but not the container {containers}: {_KEEP_OUT}"
