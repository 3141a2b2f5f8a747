"""What Kubernetes, its nodes and people do to the Jobs of a cluster in memory."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import (
    JobState,
    PodView,
    Report,
)

from .simulated import NAME, NODES, SimulatedJob, SimulatedPod


class Moves:
    """Moves of the Jobs and pods that the cluster holds."""

    now: datetime
    uid: str
    version: int
    status: dict[str, Any]
    jobs: dict[str, SimulatedJob]
    strays: list[SimulatedPod]
    foreign_maps: set[str]
    config_maps: dict[str, Any]
    service: bool
    newest: dict[Stage, int]
    recorded: set[str]
    _uids: itertools.count[int]

    def pods_start(self, job: SimulatedJob) -> None:
        """All pods become ready."""
        job.ready = job.state is JobState.RUNNING and not job.deleting and not job.lost and not job.held

    def half_schedule(self, job: SimulatedJob) -> None:
        """One pod of a gang gets a node, and holds it; there is none for the other."""
        placed = PodView("pod-0", phase="Running", node="node-0", scheduled_at=self.now)
        job.pods = (placed, PodView("pod-1", index=1, unschedulable="0/1 nodes are available"))

    def hold(self, job: SimulatedJob) -> None:
        """A queue suspends the Job, and Kubernetes removes its pods."""
        job.held, job.ready, job.pods = True, False, ()

    def tell_to_stop(self, job: SimulatedJob) -> None:
        """A pod is being deleted, for whatever reason."""
        going = PodView("pod-0", phase="Running", node="node-0", deleted_at=self.now + timedelta(seconds=30))
        job.ready, job.pods = False, (going,)

    def replace_pods(self, job: SimulatedJob) -> None:
        """Kubernetes makes all pods anew, as it does when a hold is over."""
        pods = NODES if job.stage is Stage.TRAIN else 1
        job.pods = tuple(PodView(f"new-{i}", index=i, phase="Running", node=f"node-{i}") for i in range(pods))

    def complete(self, job: SimulatedJob) -> None:
        """All pods end well, and Kubernetes says so."""
        job.state, job.finished_at, job.stuck = JobState.COMPLETE, self.now, False
        job.pods = self._ended_pods(job)

    def outlive(self, job: SimulatedJob, code: int) -> None:
        """All trainers end, with that exit code; their sidecars run on."""
        job.kept, job.cause = True, "counted" if code else ""
        job.pods = tuple(
            replace(pod, phase="Running", exit_code=code, sidecars=("proxy",), report=pod.report if code == 0 else None)
            for pod in self._ended_pods(job)
        )

    def get_stuck(self, job: SimulatedJob) -> None:
        """All pods end well, and Kubernetes cannot count them."""
        job.stuck = True
        job.pods = tuple(
            replace(pod, finalizers=("batch.kubernetes.io/job-tracking",)) for pod in self._ended_pods(job)
        )

    def _ended_pods(self, job: SimulatedJob) -> tuple[PodView, ...]:
        metrics: dict[Stage, dict[str, float]] = {
            Stage.PREPARE: {"samples": 200, "tokens": 9000},
            Stage.TRAIN: {"step": 50, "totalSteps": 50},
        }
        outputs = {Stage.TRAIN: {"adapter": {"path": "a"}}, Stage.MERGE: {"merged": {"path": "m"}}}
        report = Report("Succeeded", metrics=metrics.get(job.stage), outputs=outputs.get(job.stage))
        ended = PodView("pod-0", phase="Succeeded", exit_code=0, report=report, finished_at=self.now)
        peer = replace(ended, name="pod-1", index=1, report=Report("Succeeded"))
        return (ended, peer) if job.stage is Stage.TRAIN else (ended,)

    def fail(self, job: SimulatedJob, cause: str) -> None:
        """A pod fails; its peer loses it, and the Job begins to fail."""
        job.state, job.cause = JobState.FAILING, cause
        victim = PodView("pod-0", phase="Failed", exit_code=1, finished_at=self.now)
        peer = PodView(
            "pod-1", index=1, phase="Failed", exit_code=1, finished_at=self.now - timedelta(seconds=1),
            report=Report("Failed", "PeerLost", "lost rank 0"),
        )  # fmt: skip
        match cause:
            case "permanent":
                report = Report("Failed", "InvalidDataset", "row 7")
                victim = replace(victim, exit_code=78, report=report)
                job.reason = "PodFailurePolicy"
                job.message = (
                    f"Container trainer for pod team/{NAME} failed with exit code 78 matching FailJob rule at index 0"
                )
            case "uncounted":
                victim = replace(victim, exit_code=143, disrupted="EvictionByEvictionAPI", disrupted_at=self.now)
                job.reason = "PodFailurePolicy"
                job.message = f"Pod team/{NAME} has condition DisruptionTarget matching FailJob rule at index 1"
            case "rejected":
                victim = PodView("pod-0", phase="Failed", rejected="OutOfcpu: Node didn't have enough resource")
                job.reason, job.message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
            case _:
                job.reason, job.message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        job.pods = (victim, peer) if job.stage is Stage.TRAIN else (victim,)

    def lose_node(self, job: SimulatedJob) -> None:
        """The node of a pod no longer answers: the pod never ends, whatever is asked of it."""
        job.lost = True
        if job.pod is not None:
            job.pod.lost = True
        job.pods = (*job.pods, PodView("pod-9", index=9, phase="Running", node="gone", unreachable=True))

    def delete_node(self, job: SimulatedJob) -> None:
        """Somebody deletes the node object, and Kubernetes the pod."""
        job.lost = False
        if job.pod is not None:
            job.pod.lost = False
        if job.state is JobState.RUNNING and not job.deleting:
            self.fail(job, "uncounted")
            job.pods = tuple(replace(p, disrupted="DeletionByPodGC") if p.disrupted else p for p in job.pods)
        else:
            job.pods = tuple(p for p in job.pods if not p.unreachable)

    def pods_stop(self, job: SimulatedJob) -> None:
        """No pod of a failing or deleted Job is left terminating, but those on a lost node."""
        if job.lost:
            return
        if job.deleting:
            del self.jobs[job.name]
        elif job.state is JobState.FAILING:
            job.state, job.finished_at = JobState.FAILED, self.now

    def remove(self, job: SimulatedJob, *, orphan: bool) -> None:
        """A Job goes at once, its pods later: by garbage collection, or, orphaned, when their work is done."""
        del self.jobs[job.name]
        if job.state in (JobState.RUNNING, JobState.FAILING) and job.pod is not None:
            job.pod.owned, job.pod.going = not orphan, not orphan
            self.strays.append(job.pod)

    def recreate(self, *, orphan: bool, collected: bool) -> None:
        """The run is deleted and applied again. `collected`: garbage collection has been faster than the new run."""
        before = list(self.jobs.values())
        self.uid = f"run-{next(self._uids)}"
        self.status, self.version = {}, self.version + 1
        self.newest, self.recorded = {}, set()
        self.foreign_maps = set(self.config_maps) | self.foreign_maps if orphan else set()
        self.config_maps, self.service = {}, False
        for job in before:
            if orphan:
                job.run = ""
            elif collected and job.run:
                self.remove(job, orphan=False)

    def clean_up(self) -> None:
        """A person does what the run's message says: puts labels back, removes what earlier runs have left."""
        self.foreign_maps = set()
        for job in list(self.jobs.values()):
            job.labelled = True
            if not job.run:
                self.remove(job, orphan=False)

    def move_on(self) -> None:
        """Everything that Kubernetes would do by itself, given time."""
        self.strays = [pod for pod in self.strays if pod.lost]
        for job in [job for job in self.jobs.values() if job.run not in ("", self.uid)]:
            self.remove(job, orphan=False)
        for job in list(self.jobs.values()):
            if job.lost:
                continue
            if job.deleting or job.state is JobState.FAILING:
                self.pods_stop(job)
            elif job.kept:
                continue  # until the operator stops it
            elif job.ready or job.stuck:
                self.complete(job)
            else:
                self.pods_start(job)
            job.ready = job.ready and job.state is JobState.RUNNING
