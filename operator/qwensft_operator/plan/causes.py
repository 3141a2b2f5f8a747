"""Why did a child Job end, and may it be tried again?

One chain of small rules, the most telling first. Each looks at the ended Job and what is left of its pods and returns
a `Cause`, or None when it has nothing to say.
ADR 0006 and ADR 0102 say why.
"""

from __future__ import annotations

import re
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
# What kubelets say of a pod that exceeds its own limits. Of one that is merely on a full node they say other words.
_OWN_STORAGE = re.compile(r"local ephemeral storage limit|ephemeral local storage usage|EmptyDir volume")
# The end of a message by which a record tells that the failure does not count: its reason may be one that does.
NEVER_RAN = "was deleted before its container ran, so no restart counts"
_NO_CULPRIT = (
    "; all pods that are left lost another one, and none tells of a failure of its own: a process hangs, or the "
    "network between the pods fails. spec.runPolicy.stallTimeoutSeconds would show where a process hangs"
)
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


def is_over(pod: PodView) -> bool:
    """Whether no container of the pod runs any more, be it the trainer's or a sidecar's."""
    return pod.phase in ("Succeeded", "Failed")


def wanted_now(child: ChildJob, pods: Pods) -> Pods:
    """Return the pods but those that a hold of the Job has stopped, and that still stop after its release.

    The attempt goes on without them (ADR 0100), so their end is no word about it.
    """
    return tuple(pod for pod in pods if not _is_of_before(child, pod))


def _is_of_before(child: ChildJob, pod: PodView) -> bool:
    since = pod.scheduled_at or pod.created_at
    begun = child.started_at  # a release counts anew
    return pod.deleted_at is not None and since is not None and begun is not None and since < begun


def pod_title(child: ChildJob | None, pod: PodView) -> str:
    """Return how messages name a pod, in a gang with its node rank."""
    if child is None or child.stage is not Stage.TRAIN:
        return f"pod {pod.name}"
    return f"pod {pod.name} (node rank {pod.index})"


def classify(child: ChildJob, pods: Pods, remembered: Cause | None = None) -> Cause:
    """Return the cause of a failed (or failing) child Job.

    Args:
        child: the Job.
        pods: what is left of its pods: one that was deleted vanishes as soon as Kubernetes has counted it.
        remembered: what was seen of this attempt's end before.
    """
    pods = wanted_now(child, pods)
    ended = tuple(sorted((p for p in pods if has_failed(p) or (p.disrupted and p.phase != "Succeeded")), key=_ended_at))
    found = next((cause for rule in _RULES if (cause := rule(child, ended)) is not None), None) or remembered
    cause = found or _consequence(child, ended)  # nothing else is left to name
    return cause or Cause(_GENERIC[child.stage], child.message or f"Job {child.name} failed")


def told_to_stop(child: ChildJob, pods: Pods) -> Cause | None:
    """Return that a pod of a running Job was deleted and stops: what it says in the end vanishes with it."""
    going = (p for p in wanted_now(child, pods) if p.deleted_at is not None and p.phase in ("Pending", "Running"))
    pod = next((p for p in going if not has_failed(p)), None)
    if pod is None or pod.disrupted:
        return None if pod is None else _disrupted(child, pod)
    if pod.phase == "Pending":
        return _never_ran(child, pod)
    if pod.without_grace:
        message = f"{pod_title(child, pod)} was deleted by force, so that it could save nothing"
        return Cause(Reason.KILLED_BEFORE_SAVED, message)
    return Cause(Reason.INTERRUPTED, f"{pod_title(child, pod)} was deleted")


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
    if pod.disrupted and not _before(pod.finished_at, pod.disrupted_at):  # an evicted pod also has an exit code
        return _disrupted(child, pod)
    if pod.rejected.startswith("Evicted:"):  # without a disruption: for what the pod itself did
        return _evicted(child, pod)
    if pod.rejected and pod.exit_code is None:
        account = _account(child, pod)
        return Cause(Reason.POD_REJECTED, f"{account}; its container never ran, so no restart counts", counted=False)
    if pod.report and pod.report.outcome not in _NO_FAILURE and pod.report.reason not in _CONSEQUENCES:
        reason = _reason(child, pod)
        # Nothing was trained, and nothing of the run's is at fault: a queue took its pods away while they started.
        return Cause(reason, _account(child, pod), counted=reason is not Reason.START_MISMATCH)
    if pod.exit_reason == "OOMKilled":  # the kernel's word; the trainer could not say anything
        fix = f"raise the memory limit in {RESOURCES[child.stage]}"
        message = f"{pod_title(child, pod)} was killed for using more memory than its limit; {fix}"
        return Cause(Reason.OUT_OF_MEMORY, message)
    return None


def _disrupted(child: ChildJob, pod: PodView) -> Cause:
    where = pod_title(child, pod)
    if pod.disrupted == _NODE_GONE:
        return Cause(Reason.NODE_LOST, f"{where} was on node {pod.node}, which is gone", counted=False)
    return Cause(Reason.PREEMPTED, f"{where} was evicted ({pod.disrupted})", counted=False)


def _evicted(child: ChildJob, pod: PodView) -> Cause:
    if not _OWN_STORAGE.search(pod.rejected):
        return Cause(Reason.PREEMPTED, f"{pod_title(child, pod)} was evicted ({pod.rejected})", counted=False)
    fix = f"raise ephemeral-storage in the limits of {RESOURCES[child.stage]}"
    if "shared-memory" in pod.rejected:
        fix = "raise spec.worker.sharedMemory, in a new QwenSFTJob"
    message = f"{pod_title(child, pod)} was evicted for the local storage that it used: {pod.rejected}; {fix}"
    return Cause(Reason.LOCAL_STORAGE_EXCEEDED, message)


def _unreported(child: ChildJob, ended: Pods) -> Cause | None:
    pod = next((p for p in ended if p.report is None and has_failed(p) and not _is_unrun(p)), None)
    return None if pod is None else Cause(_GENERIC[child.stage], _account(child, pod))


def _never_ran(child: ChildJob, pod: PodView) -> Cause:
    return Cause(Reason.INTERRUPTED, f"{pod_title(child, pod)} {NEVER_RAN}", counted=False)


def _is_unrun(pod: PodView) -> bool:
    """Whether the pod was deleted and no container of it has ended: by a person, or with a gang that had failed."""
    return pod.phase == "Failed" and pod.exit_code is None and pod.deleted_at is not None and not pod.disrupted


def _consequence(child: ChildJob, ended: Pods) -> Cause | None:
    unrun = next((p for p in ended if _is_unrun(p)), None)
    if unrun is not None:
        return _never_ran(child, unrun)
    pod = next((p for p in ended if has_failed(p)), None)
    if pod is None:
        return None
    reported = pod.report.reason if pod.report else ""
    if reported in _STOPPED:
        return Cause(Reason(reported), _account(child, pod))
    return Cause(_GENERIC[child.stage], _account(child, pod) + _NO_CULPRIT)


_RULES: tuple[Callable[[ChildJob, Pods], Cause | None], ...] = (
    _permanent,  # no later attempt can get past it, whatever else happened
    _deadline,  # the pods only tell that they were stopped
    _disrupted_and_gone,  # Kubernetes saw it first, and the pod can no longer tell
    _first_failure,
    _unreported,  # better than one that lost its peers or was told to stop
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
