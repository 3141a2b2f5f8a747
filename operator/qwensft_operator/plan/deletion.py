"""A run that somebody has deleted and that does not go: what holds it, and the way out. Nothing else is done for it.

ADR 0114 says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import PLURAL, Reason
from qwensft_operator.plan.causes import Pods, pod_title
from qwensft_operator.plan.lost_nodes import lost_node, may_be_stopping, unconfirmed_end
from qwensft_operator.plan.raw_status import condition_plan
from qwensft_operator.plan.times import has_lasted, parse_time, timestamp
from qwensft_operator.plan.types import Event, Plan
from qwensft_operator.plan.views import OF_KUBERNETES

PATIENCE = timedelta(seconds=30)  # a deletion mostly takes less
_LOOK_AGAIN = 60.0  # seconds; changes of what holds it are told by watches
_FOREGROUND = "foregroundDeletion"
_JOB_TRACKING = "batch.kubernetes.io/job-tracking"
_MOST_NAMED = 3

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dependent:
    """An object that belongs to a run which is being deleted."""

    kind: str  # as kubectl takes it: job, pod, service, configmap, persistentvolumeclaim
    name: str
    finalizers: tuple[str, ...] = ()
    deleting: bool = False


def dependent(kind: str, manifest: Manifest) -> Dependent:
    """Reduce an object that belongs to the run."""
    meta = manifest["metadata"]
    return Dependent(kind, meta["name"], tuple(meta.get("finalizers") or ()), "deletionTimestamp" in meta)


def deletion(manifest: Manifest, dependents: tuple[Dependent, ...], pods: Pods, now: datetime) -> Plan:
    """Return what to say of a run that is being deleted.

    Args:
        manifest: The QwenSFTJob, with a deletionTimestamp.
        dependents: What it owns, pods aside.
        pods: Those of its Jobs.
        now: The time.
    """
    since = parse_time(manifest["metadata"]["deletionTimestamp"]) or now
    if not has_lasted(since, PATIENCE, now):
        return Plan(requeue_after=(PATIENCE - (now - since)).total_seconds())
    held = _held(manifest, dependents, pods, now)
    if held is None:
        return Plan(requeue_after=_LOOK_AGAIN)
    told = condition_plan(manifest, Reason.DELETION_HELD, held, stalled=False, now=now)
    # What has ended keeps its last words, so of that only the event tells.
    return Plan(status=told.status, events=(Event("Warning", Reason.DELETION_HELD, held),), requeue_after=_LOOK_AGAIN)


def _held(manifest: Manifest, dependents: tuple[Dependent, ...], pods: Pods, now: datetime) -> str | None:
    """Return what holds the deletion, in sentences; None while pods stop in the time that they were given."""
    own = tuple(manifest["metadata"].get("finalizers") or ())
    others = tuple(name for name in own if name not in OF_KUBERNETES)
    if others:
        return (
            f"the deletion is held by finalizers of the job itself ({', '.join(others)}): mend the controller "
            f"that they belong to. If that is gone for good: {_without(PLURAL, manifest['metadata'], own, others)}"
        )
    if _FOREGROUND not in own:
        return "the deletion is held by Kubernetes' garbage collector: see whether kube-controller-manager runs"
    return _held_below(manifest, dependents, pods, now)


def _held_below(manifest: Manifest, dependents: tuple[Dependent, ...], pods: Pods, now: datetime) -> str | None:
    namespace = manifest["metadata"]["namespace"]
    for dependent in (*dependents, *(Dependent("pod", p.name, p.finalizers, p.deleted_at is not None) for p in pods)):
        foreign = tuple(name for name in dependent.finalizers if name not in OF_KUBERNETES and name != _JOB_TRACKING)
        if dependent.deleting and foreign:
            meta = {"name": dependent.name, "namespace": namespace}
            return (
                f"the deletion is held by finalizers of {dependent.kind} {dependent.name} ({', '.join(foreign)}): mend "
                "the controller that they belong to. If that is gone for good: "
                f"{_without(dependent.kind, meta, dependent.finalizers, foreign)}"
            )
    if (lost := lost_node(None, pods, now)) is not None:
        return f"the deletion waits for a pod that does not end: {lost.message}"
    if unconfirmed := unconfirmed_end(pods, namespace, now):
        return f"the deletion waits for a pod that has ended: {unconfirmed}"
    if any(may_be_stopping(pod, now) for pod in pods):
        return None
    tracked = next((pod for pod in pods if pod.deleted_at is not None and _JOB_TRACKING in pod.finalizers), None)
    if tracked is not None:
        return (
            f"the deletion is held by the finalizer {_JOB_TRACKING} of {pod_title(None, tracked)}, which its "
            "controller does not take off: mostly an admission policy or webhook refuses updates of pods. Have it let "
            "kube-controller-manager update them"
        )
    left = [f"{d.kind} {d.name}" for d in dependents] + [pod_title(None, pod) for pod in pods]
    named = ", ".join(left[:_MOST_NAMED]) + (f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else "")
    what = f"has not removed what belongs to it ({named})" if left else "does not let it go"
    since = timestamp(parse_time(manifest["metadata"]["deletionTimestamp"]) or now)
    own = tuple(manifest["metadata"].get("finalizers") or ())
    return (
        f"the job was deleted in the foreground at {since}, and Kubernetes' garbage collector {what}: see whether "
        "kube-controller-manager runs, and whether an object of somebody else names this job as its owner. To let the "
        f"job go before what belongs to it: {_without(PLURAL, manifest['metadata'], own, (_FOREGROUND,))}"
    )


def _without(kind: str, meta: Manifest, finalizers: tuple[str, ...], removed: tuple[str, ...]) -> str:
    """Return the command that takes finalizers off."""
    kept = [name for name in finalizers if name not in removed]
    patch = json.dumps({"metadata": {"finalizers": kept or None}}, separators=(",", ":"))
    return f"kubectl patch {kind} {meta['name']} -n {meta['namespace']} --type merge -p '{patch}'"
