"""What users and the cluster may do to a run, at any moment and in any order; a number goes with each."""

from __future__ import annotations

from datetime import timedelta

from qwensft.api.v1alpha1 import Phase, Stage
from qwensft_operator.plan.types import JobState

from .cluster import Pass
from .cuts import CutCluster, Disturbances
from .simulated import SimulatedJob


class Happenings(Disturbances):
    """Happenings for the trial: of the user, of the cluster, and of what lies between it and the operator."""

    cluster: CutCluster
    restarts: dict[Stage, int]  # what should have been counted
    active_seconds: int  # since the run began, without the time held

    def _account(self, done: Pass) -> None:
        """Compare a pass with the truth."""
        raise NotImplementedError

    # The user.

    def suspend(self, _: int) -> None:
        self.cluster.edit("runPolicy", suspend=True)

    def resume(self, _: int) -> None:
        self.cluster.edit("runPolicy", suspend=False)

    def change_merge(self, size: int) -> None:
        self.cluster.edit("merge", shardSizeGB=1 + size % 3)

    def switch_merge(self, _: int) -> None:
        self.cluster.edit("merge", enabled=not self.cluster.spec["merge"]["enabled"])

    def edit_worker(self, number: int) -> None:
        self.cluster.edit("worker", nodeSelector={"pool": str(number % 3)})

    def retry(self, _: int) -> None:
        self.cluster.edit("runPolicy", retry=self.cluster.spec["runPolicy"].get("retry", 0) + 1)

    def delete_by_hand(self, number: int) -> None:
        for job in self._pick(list(self.cluster.jobs.values()), number):
            job.deleting = True

    def delete_in_background(self, number: int) -> None:
        """As kubectl does by default: the Job is gone before its pods."""
        for job in self._pick(list(self.cluster.jobs.values()), number):
            self.cluster.remove(job, orphan=False)

    def orphan_pods(self, number: int) -> None:
        for job in self._pick(list(self.cluster.jobs.values()), number):
            self.cluster.remove(job, orphan=True)

    def take_off_labels(self, number: int) -> None:
        """From a Job, or one of them from a pod."""
        if number % 3 == 0:
            for job in self._pick(list(self.cluster.jobs.values()), number):
                job.labelled = False
        for pod in self.cluster.alive() if number % 3 else ():
            pod.bare_of = ("qwensft.io/job", "batch.kubernetes.io/job-name")[number % 3 - 1]

    def take_off_owner(self, number: int) -> None:
        for job in self._pick(self.cluster.children(), number):
            job.run = ""

    def apply_again(self, number: int) -> None:
        """The run is deleted, with its children or without, and applied again while they are still there."""
        self.cluster.recreate(orphan=number % 3 == 0, collected=number % 2 == 0)
        self.restarts = dict.fromkeys(Stage, 0)
        self.active_seconds = 0

    def clean_up(self, _: int) -> None:
        self.cluster.clean_up()

    # The cluster.

    def strays_end(self, number: int) -> None:
        ending = [pod for pod in self.cluster.strays if not pod.lost]
        if ending:
            self.cluster.strays.remove(ending[number % len(ending)])

    def pods_start(self, number: int) -> None:
        for job in self._pick(self.cluster.active(), number):
            self.cluster.pods_start(job)

    def half_schedule(self, number: int) -> None:
        starting = [j for j in self._running() if j.stage is Stage.TRAIN and not j.ready]
        for job in self._pick(starting, number):
            self.cluster.half_schedule(job)

    def hold(self, number: int) -> None:
        for job in self._pick(self._running(), number):
            self.cluster.hold(job)

    def hold_unseen(self, number: int) -> None:
        """A queue holds a Job for so short a time that nothing is seen but pods that stop, and later new ones."""
        known = [job for job in self._running() if not job.deleting and job.name in self.cluster.config_maps]
        for job in self._pick(known, number):
            self.cluster.tell_to_stop(job)
            self._account(self.cluster.reconcile())
            self.cluster.replace_pods(job)
            self._account(self.cluster.reconcile())

    def release(self, _: int) -> None:
        for job in self.cluster.active():
            job.held = False

    def complete(self, _: int) -> None:
        for job in self.cluster.active():
            if job.ready and job.state is JobState.RUNNING and not job.lost and not job.kept:
                self.cluster.complete(job)

    def outlive(self, number: int) -> None:
        for job in self._going():
            self.cluster.outlive(job, code=number % 2)

    def get_stuck(self, _: int) -> None:
        for job in self._going():
            self.cluster.get_stuck(job)

    def _going(self) -> list[SimulatedJob]:
        """Jobs that are up."""
        return [
            job
            for job in self.cluster.active()
            if job.ready and job.state is JobState.RUNNING and not (job.lost or job.kept or job.stuck or job.deleting)
        ]

    def fail(self, number: int, cause: str = "counted") -> None:
        for job in self._pick(self._running(), number):
            self.cluster.fail(job, cause)

    def evict(self, number: int) -> None:
        self.fail(number, "uncounted")
        if number % 2:  # the evicted pod is gone, the Job's message remains
            for job in self.cluster.active():
                job.pods = () if job.cause == "uncounted" else job.pods

    def reject(self, number: int) -> None:
        self.fail(number, "rejected")

    def fail_for_good(self, number: int) -> None:
        self.fail(number, "permanent")

    def pods_stop(self, number: int) -> None:
        stopping = [j for j in self.cluster.jobs.values() if j.deleting or j.state is JobState.FAILING]
        for job in self._pick(stopping, number):
            self.cluster.pods_stop(job)

    def pods_vanish(self, number: int) -> None:
        """Ended pods are removed; the Job's own message must be enough."""
        explained = [j for j in self.cluster.jobs.values() if j.cause != "rejected"]
        for job in self._pick(explained, number):
            job.pods = ()

    def lose_node(self, number: int) -> None:
        for job in self._pick(
            [j for j in self.cluster.active() if not (j.lost or j.kept or j.stuck or j.held)], number
        ):
            self.cluster.lose_node(job)

    def delete_node(self, number: int) -> None:
        for job in self._pick([j for j in self.cluster.jobs.values() if j.lost], number):
            self.cluster.delete_node(job)
        for pod in self.cluster.strays:
            pod.lost = False

    def switch_claim(self, _: int) -> None:
        self.cluster.claim_lost = self.cluster.claim and not self.cluster.claim_lost

    def switch_rows(self, _: int) -> None:
        self.cluster.rows = not self.cluster.rows

    def switch_quota(self, _: int) -> None:
        self.cluster.refused = not self.cluster.refused

    def time_passes(self, number: int) -> None:
        self._pass_time(20 * number)

    def wait(self, _: int) -> None:
        """Time passes until the operator wants to look again."""
        if self.cluster.passes:
            self._pass_time(int(self.cluster.passes[-1].plan.requeue_after or 0))

    def _pass_time(self, seconds: int) -> None:
        self.cluster.now += timedelta(seconds=seconds)
        self.active_seconds += 0 if self.cluster.phase == Phase.SUSPENDED else seconds

    def _running(self) -> list[SimulatedJob]:
        """Jobs whose pods may come to something."""
        running = (j for j in self.cluster.active() if j.state is JobState.RUNNING)
        return [j for j in running if not (j.lost or j.held or j.kept or j.stuck)]

    def _pick(self, jobs: list[SimulatedJob], number: int) -> list[SimulatedJob]:
        ordered = sorted(jobs, key=lambda job: job.name)
        return [ordered[number % len(ordered)]] if ordered else []
