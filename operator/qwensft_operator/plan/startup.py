"""What keeps a child Job that should run from having its pods up: quotas, nodes, images, volumes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan.causes import RESOURCES, Cause, Pods, pod_title
from qwensft_operator.plan.lost_nodes import lost_node
from qwensft_operator.plan.times import has_lasted
from qwensft_operator.plan.types import ChildJob, PodView, Trouble

# What quotas and limit ranges say when a container's amounts are missing, too large or too small.
_AMOUNTS_REFUSED = re.compile(r"must specify|usage per (Container|Pod)|requested: .*\b(cpu|memory|ephemeral-storage)=")
STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})  # a container waits, but is merely starting
_IMAGE_PROBLEMS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_MOUNT_PROBLEMS = {"FailedMount", "FailedAttachVolume", "FailedMapVolume"}

# How long Kubernetes may go on saying that something does not work before it is a problem and no hitch of a start.
PATIENCE = timedelta(seconds=30)
_LONGER_PATIENCE = {"ExternalProvisioning": timedelta(minutes=3)}  # said of every claim while its volume is being made


def diagnose(
    child: ChildJob,
    pods: Pods,
    *,
    wanted: int,
    now: datetime,
    creation_failures: tuple[str, ...] = (),
    storage: str = "",
) -> Cause | None:
    """Return what keeps a running child Job from having its pods up; None while it is merely starting.

    Args:
        child: the Job.
        pods: its pods.
        wanted: how many it should have.
        now: the time, against which complaints of Kubernetes are aged.
        creation_failures: why the Job controller could not create some of them, the newest first.
        storage: what is wrong with a claim that the pods mount, or "".
    """
    if creation_failures and len(pods) < wanted:
        words = creation_failures[0]
        fix = f"; set or change them in {RESOURCES[child.stage]}" if _AMOUNTS_REFUSED.search(words) else ""
        message = f"Job {child.name} cannot create its pods: {words}{fix}"
        return Cause(Reason.POD_CREATION_FAILED, message)
    causes = (_not_starting(child, pod, storage, now) for pod in pods)
    return lost_node(child, pods, now) or next((cause for cause in causes if cause is not None), None)


def readiness(child: str, ready: int, wanted: int) -> str:
    """Say how many pods of a Job are ready: of a large gang in steps, since each word is a write of the status."""
    step = max(1, wanted // 10)
    shown = ready - ready % step
    return f"{'at least ' if step > 1 and shown else ''}{shown} of {wanted} pods of Job {child} are ready"


def _not_starting(child: ChildJob, pod: PodView, storage: str, now: datetime) -> Cause | None:
    where, trouble = pod_title(child, pod), pod.trouble
    if storage and not pod.node:
        return Cause(Reason.STORAGE_UNAVAILABLE, f"{where} cannot be scheduled: {storage}")
    if pod.gates:
        held = f"is held by its scheduling gates ({', '.join(pod.gates)}): who has set them takes them off"
        return Cause(Reason.QUEUED, f"{where} {held}")
    if pod.unschedulable:
        return Cause(Reason.UNSCHEDULABLE, f"{where} cannot be scheduled: {pod.unschedulable}")
    if pod.waiting_reason not in STARTING:
        reason = Reason.IMAGE_PULL_FAILED if pod.waiting_reason in _IMAGE_PROBLEMS else Reason.POD_NOT_STARTING
        return Cause(reason, f"{where}: {pod.waiting_reason}: {pod.waiting_message}")
    if trouble is not None and is_persistent(trouble, now):
        reason = Reason.VOLUME_MOUNT_FAILED if trouble.reason in _MOUNT_PROBLEMS else Reason.POD_NOT_STARTING
        return Cause(reason, f"{where} on node {pod.node}: {trouble.reason}: {trouble.message}")
    return None


def is_persistent(trouble: Trouble, now: datetime) -> bool:
    """Whether Kubernetes has been saying it for too long to pass by itself."""
    return has_lasted(trouble.since, _LONGER_PATIENCE.get(trouble.reason, PATIENCE), now)
