"""Why did a child Job end, and may it be tried again?

One chain of small rules, the most telling first. Each looks at the ended Job and what is left of its pods and returns
a `Cause`, or None when it has nothing to say.
ADR 0006 says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from qwensft.api.v1alpha1 import EXIT_PERMANENT, Reason, Stage
from qwensft_operator.plan.types import ChildJob, PodView

Pods = tuple[PodView, ...]

_REASONS = frozenset(Reason)
_STOPPED = {Reason.INTERRUPTED, Reason.KILLED_BEFORE_SAVED}  # the pod was told to end, for a reason that others know
_CONSEQUENCES = {Reason.PEER_LOST, *_STOPPED}
_NO_FAILURE = {"Succeeded", Reason.INTERRUPTED}  # outcomes of a report; any other is one, also of a newer image
_GENERIC = {
    Stage.PREPARE: Reason.PREPARATION_FAILED,
    Stage.TRAIN: Reason.TRAINING_FAILED,
    Stage.MERGE: Reason.MERGE_FAILED,
}
RESOURCES = {  # the field that holds the amounts of a stage's pods
    Stage.PREPARE: "spec.prepare.resources",
    Stage.TRAIN: "spec.worker.resources",
    Stage.MERGE: "spec.merge.resources",
}
_NODE_GONE = "DeletionByPodGC"  # Kubernetes removes the pods of a node whose object was deleted


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an attempt ended. `permanent`: do not try again. `counted`: it uses up one of the allowed restarts."""

    reason: Reason
    message: str
    permanent: bool = False
    counted: bool = True


def has_failed(pod: PodView) -> bool:
    """Whether the pod has ended badly."""
    return bool(pod.exit_code) or pod.phase == "Failed"


def pod_title(child: ChildJob | None, pod: PodView) -> str:
    """Return how messages name a pod, in a gang with its node rank."""
    if child is None or child.stage is not Stage.TRAIN:
        return f"pod {pod.name}"
    return f"pod {pod.name} (node rank {pod.index})"


def classify(child: ChildJob, pods: Pods) -> Cause:
    """Return the cause of a failed (or failing) child Job."""
    ended = tuple(sorted((p for p in pods if has_failed(p) or (p.disrupted and p.phase != "Succeeded")), key=_ended_at))
    for rule in _RULES:
        cause = rule(child, ended)
        if cause is not None:
            return cause
    return Cause(_GENERIC[child.stage], child.message or f"Job {child.name} failed")


def _permanent(child: ChildJob, ended: Pods) -> Cause | None:
    pod = next((p for p in ended if p.exit_code == EXIT_PERMANENT), None)
    if pod is not None:
        return Cause(_reason(child, pod), _account(child, pod), permanent=True)
    # The Job's own message outlives its pods.
    if child.reason == "PodFailurePolicy" and f"exit code {EXIT_PERMANENT} " in child.message:
        return Cause(_GENERIC[child.stage], child.message, permanent=True)
    return None


def _deadline(child: ChildJob, _: Pods) -> Cause | None:
    if child.reason != "DeadlineExceeded":
        return None
    message = f"Job {child.name} ran longer than spec.{child.stage}.activeDeadlineSeconds"
    return Cause(Reason.DEADLINE_EXCEEDED, message)


def _disrupted_and_gone(child: ChildJob, ended: Pods) -> Cause | None:
    disrupted = child.reason == "PodFailurePolicy" and "DisruptionTarget" in child.message
    if disrupted and not any(p.disrupted for p in ended):
        return Cause(Reason.PREEMPTED, child.message, counted=False)
    return None


def _first_failure(child: ChildJob, ended: Pods) -> Cause | None:
    return next((cause for pod in ended if (cause := _own_failure(child, pod)) is not None), None)


def _own_failure(child: ChildJob, pod: PodView) -> Cause | None:
    """Return why this pod ended, unless another pod's end was the reason or nobody knows."""
    where = pod_title(child, pod)
    if pod.disrupted and not _before(pod.finished_at, pod.disrupted_at):  # an evicted pod also has an exit code
        if pod.disrupted == _NODE_GONE:
            return Cause(Reason.NODE_LOST, f"{where} was on node {pod.node}, which is gone", counted=False)
        return Cause(Reason.PREEMPTED, f"{where} was evicted ({pod.disrupted})", counted=False)
    if pod.report and pod.report.outcome not in _NO_FAILURE and pod.report.reason not in _CONSEQUENCES:
        return Cause(_reason(child, pod), _account(child, pod))
    if pod.exit_reason == "OOMKilled":  # the kernel's word; the trainer could not say anything
        fix = f"raise the memory limit in {RESOURCES[child.stage]}"
        message = f"{where} was killed for using more memory than its limit; {fix}"
        return Cause(Reason.OUT_OF_MEMORY, message)
    return None


def _unreported(child: ChildJob, ended: Pods) -> Cause | None:
    pod = next((p for p in ended if p.report is None and has_failed(p)), None)
    return None if pod is None else Cause(_GENERIC[child.stage], _account(child, pod))


def _consequence(child: ChildJob, ended: Pods) -> Cause | None:
    pod = next((p for p in ended if has_failed(p)), None)
    if pod is None:
        return None
    reported = pod.report.reason if pod.report else ""
    return Cause(Reason(reported) if reported in _STOPPED else _GENERIC[child.stage], _account(child, pod))


_RULES: tuple[Callable[[ChildJob, Pods], Cause | None], ...] = (
    _permanent,  # no later attempt can get past it, whatever else happened
    _deadline,  # the pods only tell that they were stopped
    _disrupted_and_gone,  # Kubernetes saw it first, and the pod can no longer tell
    _first_failure,
    _unreported,  # better than one that lost its peers or was told to stop
    _consequence,  # nothing else is left to name
)


def _reason(child: ChildJob, pod: PodView) -> Reason:
    """Return the reported reason, if it is one that the API knows: others might not even be valid in a condition."""
    reported = pod.report.reason if pod.report else ""
    return Reason(reported) if reported in _REASONS and reported not in _CONSEQUENCES else _GENERIC[child.stage]


def _account(child: ChildJob, pod: PodView) -> str:
    """Return one sentence: which pod, where it ran if that may be the reason, how it ended, and its last words."""
    where = pod_title(child, pod)
    if pod.node and pod.exit_code != EXIT_PERMANENT:
        where = f"{where} on node {pod.node}"
    if pod.exit_code is None:
        return f"{where} failed: {pod.rejected}" if pod.rejected else f"{where} failed"
    texts = (pod.report.message, pod.report.reason) if pod.report else (pod.exit_message, pod.exit_reason)
    words = next(filter(None, texts), "")
    return f"{where} exited with code {pod.exit_code}" + (f": {words}" if words else "")


def _ended_at(pod: PodView) -> datetime:
    known = [moment for moment in (pod.finished_at, pod.disrupted_at) if moment is not None]
    return min(known, default=datetime.max.replace(tzinfo=UTC))


def _before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other
