"""Which pods are on a node that no longer answers. Nobody confirms their end, so they hold up whatever waits for it.

Only what the node controller says is evidence: by time alone, a wrong clock would blame a sound node (ADR 0107).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan.causes import Cause, Pods, is_over, pod_title
from qwensft_operator.plan.times import timestamp
from qwensft_operator.plan.types import ChildJob, PodView

# A pod stops within its grace period, and its node tells so a moment later.
OVERDUE = timedelta(seconds=30)


def lost_node(child: ChildJob | None, pods: Pods, now: datetime) -> Cause | None:
    """Return that a node of the Job no longer answers, and what lets the run go on; or that a pod does not stop.

    Without a Job it is about pods that have none.

    The kubelet of a lost node confirms no end, so its pods exist until somebody vouches that the machine is gone.
    Deleting such a pod by force does not help: the Job controller's finalizer keeps it until its phase is Failed.
    """
    for pod in pods:
        # Not by how the trainer has ended: a sidecar may still run beside it.
        if is_over(pod) or not (pod.unreachable or _is_overdue(pod, now)):
            continue
        where = f"{pod_title(child, pod)} on node {pod.node}"
        late = f" was told to stop by {timestamp(pod.deleted_at)} and has not" if pod.deleted_at else ""
        if not pod.unreachable:
            message = f"{where}{late}; kubectl get node {pod.node} tells whether the node answers"
            return Cause(Reason.POD_NOT_STOPPING, message, counted=False)
        message = f"{where}{late}: the node no longer answers, or says that it is not ready"
        fix = (
            f"If the machine is gone, delete its node object (kubectl delete node {pod.node}); if it is off for a "
            f"while, kubectl taint node {pod.node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        )
        return Cause(Reason.NODE_LOST, f"{message}. {fix}", counted=False)
    return None


def unconfirmed_end(pods: Pods, namespace: str, now: datetime) -> str:
    """Return that a node does not confirm that a pod which has ended is gone, and the way out; "" if there is none.

    What has a finalizer is held by that also after a deletion by force.
    """
    left = (pod for pod in pods if is_over(pod) and not pod.finalizers and _is_overdue(pod, now))
    pod = next(left, None)
    if pod is None:
        return ""
    return (
        f"node {pod.node} does not confirm that pod {pod.name}, which has ended, is gone (kubectl get node {pod.node} "
        "tells whether it answers). Nothing of the pod runs any more, so that "
        f"kubectl delete pod {pod.name} -n {namespace} --grace-period=0 --force is safe"
    )


def may_be_stopping(pod: PodView, now: datetime) -> bool:
    """Whether a pod that was deleted is in its grace period, or so little past it that this says nothing yet."""
    # A pod's deletionTimestamp is the end of its grace period.
    return pod.deleted_at is not None and now - pod.deleted_at <= OVERDUE


def _is_overdue(pod: PodView, now: datetime) -> bool:
    """Whether a pod's grace period has been over for a while, and its node has not confirmed that it is gone."""
    return pod.deleted_at is not None and bool(pod.node) and not may_be_stopping(pod, now)
