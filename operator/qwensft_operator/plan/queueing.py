"""A child Job that somebody else holds: a queue such as Kueue, a mutating policy, or a person.

`spec.suspend` of a child is theirs: the operator makes the Job of a queue held, and never writes it again. A hold is no
failure, and the attempt goes on after it.
ADR 0100 says why. ADR 0160 says why. ADR 0161 says what Kueue itself does.
"""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import Phase, Reason, Stage, Status
from qwensft_operator.plan.causes import has_failed, wanted_now
from qwensft_operator.plan.lost_nodes import lost_node
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, adopted, repairs
from qwensft_operator.plan.types import ChildJob, JobState, QueuePlace

_MULTIKUEUE = "kueue.x-k8s.io/multikueue"  # in spec.managedBy: the Job's pods run in another cluster
_QUEUE_LOOK = 60.0  # seconds until its place in the queue, of which no watch tells, is looked at again


def queued(run: Run, now: datetime) -> Step | None:
    """Wait for whoever holds the attempt's Job, and say who that may be and how it goes on."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or child.deleting or child.state is not JobState.RUNNING:
        return None
    if not child.suspended and child.managed_by != _MULTIKUEUE:
        return _gated(run, stage, child)
    pods = tuple(pod for pod in run.observed.pods if pod.phase in ("Pending", "Running"))
    lost = lost_node(child, pods, now)
    stopping = "its pods stop; " if pods else ""
    place = run.observed.queue_place
    obstacle = _obstacle(run, child, place)
    message = stopping + (obstacle or _held(run, child, place))
    own = Reason.QUEUE_UNAVAILABLE if obstacle else Reason.QUEUED
    return Step(
        Phase.SUSPENDED,
        lost.reason if lost else own,
        f"{lost.message}; {message}" if lost else message,
        forgiven(run, stage, child),
        repairs(run, stage, child),
        warning=bool(lost or obstacle),
        requeue_after=LOOK_AGAIN if pods or (child.queue and place is None) else _QUEUE_LOOK,
    )


def _obstacle(run: Run, child: ChildJob, place: QueuePlace | None) -> str:
    """Say why no quota would help a Job in a queue of Kueue, and what does; "" where it only has to wait."""
    namespace = run.job.metadata.namespace
    other = f"name another queue in spec.runPolicy.queueName (kubectl get localqueues -n {namespace})"
    if child.managed_by == _MULTIKUEUE:
        return (
            f"Job {child.name} is handed to MultiKueue (its spec.managedBy): the training would run in another "
            f"cluster, where this run's volume is not. To train here, {other}"
        )
    if place is None:
        return ""
    why = place.message.rstrip(".")
    if place.given_up:
        return (
            f"Job {child.name} was admitted to the queue {child.queue}, and Kueue has given up releasing it: {why}. "
            "Once that is mended, set spec.runPolicy.suspend to true and then to false: the Job is made anew, "
            f"uncounted, and waits again. Or {other}"
        )
    if place.inactive:
        active = """--type merge -p '{"spec":{"active":true}}'"""
        return (
            f"Job {child.name} is taken out of its queue: {why}. It waits there again, uncounted, after kubectl patch "
            f"workload {place.workload} -n {namespace} {active}"
        )
    if place.inadmissible:
        return (
            f"Job {child.name} waits in the queue {child.queue}, which admits nothing: {why}. It is admitted, "
            f"uncounted, when that is mended. Or {other}"
        )
    return ""


def _held(run: Run, child: ChildJob, place: QueuePlace | None) -> str:
    """Say who holds a Job, as far as that is known, and how it goes on."""
    namespace = run.job.metadata.namespace
    queue = f"the queue {child.queue}" if child.queue else "a queue of Kueue"
    if place is not None and place.admitted:
        return (
            f"Job {child.name} is admitted to {queue}, which is about to release it. If that lasts, something refuses "
            "Kueue the change of the Job, and Kueue's log says what (kubectl logs -n kueue-system "
            "deployment/kueue-controller-manager)"
        )
    if place is not None:
        where = queue if not child.queue or place.position is None else f"{queue}, position {place.position}"
        why = f": {place.message.rstrip('.')}" if place.message else ""
        before = f". It had been admitted: {place.evicted.rstrip('.')}" if place.evicted else ""
        return (
            f"Job {child.name} waits in {where}{why}{before}. The same attempt goes on, uncounted, when it is admitted "
            f"(kubectl describe workload {place.workload} -n {namespace})"
        )
    if child.queue:
        name = child.queue_class
        rank = f"a WorkloadPriorityClass {name} (kubectl get workloadpriorityclasses), " if name else ""
        return (
            f"Job {child.name} is held for the queue {child.queue}, and Kueue has not taken it up yet. If that lasts: "
            f"is Kueue installed, is there a LocalQueue {child.queue} (kubectl get localqueues -n {namespace}), "
            f"{rank}and does Kueue's configuration include this namespace and the integration batch/job?"
        )
    return (
        f"Job {child.name} is held: its spec.suspend is true, set by a queue (Kueue), a policy or a person. "
        "The same attempt goes on, uncounted, when they take it back: a queue as soon as there is room "
        f"(kubectl get workloads -n {namespace}), else kubectl patch job {child.name} -n {namespace} "
        """--type merge -p '{"spec":{"suspend":false}}'"""
    )


def _gated(run: Run, stage: Stage, child: ChildJob) -> Step | None:
    """Wait for whoever has set scheduling gates on all pods that there are: the scheduler has not seen them yet."""
    pods = wanted_now(child, run.observed.pods)
    if not pods or not all(pod.gates and pod.deleted_at is None for pod in pods):
        return None
    gates = sorted({gate for pod in pods for gate in pod.gates})
    message = (
        f"the pods of Job {child.name} are held by scheduling gates ({', '.join(gates)}), set by a queue (Kueue) or "
        "another controller, which takes them off when there is room (kubectl get workloads -n "
        f"{run.job.metadata.namespace}). Then the attempt goes on, uncounted"
    )
    status, mended = adopted(run, stage, child), repairs(run, stage, child)
    return Step(Phase.SUSPENDED, Reason.QUEUED, message, status, mended, requeue_after=LOOK_AGAIN)


def forgiven(run: Run, stage: Stage, child: ChildJob) -> Status:
    """Return the status without what the stopping pods were taken for before the hold was known."""
    held = Run(run.observed, status=adopted(run, stage, child))
    if held.record(stage).failed_attempt != child.attempt:
        return held.status
    return held.recorded(stage, reason=None, message=None, failed_attempt=None)


def going_on(run: Run, stage: Stage, child: ChildJob) -> Status:
    """Return the status of a running attempt, without the end that a hold seemed to be which is over unseen.

    Kubernetes makes no pod anew but after a hold: one that ends badly is the end of its Job, also when it is gone
    before the Job is said to have failed. So as soon as all pods are there, and none has failed or been told to stop,
    what was noted of this attempt's end was none.
    """
    if child.state is not JobState.RUNNING or child.deleting:
        return adopted(run, stage, child)
    there = [p for p in wanted_now(child, run.observed.pods) if p.deleted_at is None and not has_failed(p)]
    return forgiven(run, stage, child) if len(there) >= run.pods_of(stage) else adopted(run, stage, child)
