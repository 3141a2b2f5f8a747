"""A run that is tried: what the operator does in it, and what must hold whatever happens."""

from __future__ import annotations

from datetime import timedelta

from qwensft.api.v1alpha1 import Phase, Reason, Stage, StageStatus, Status
from qwensft_operator.plan.past import KEPT
from qwensft_operator.plan.run import DONE_CONDITION
from qwensft_operator.plan.suspension import seconds_active
from qwensft_operator.plan.types import JobState

from .cluster import OVER, Pass
from .cuts import CutCluster
from .happenings import Happenings

_ROWS = {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
_STANDSTILLS = (
    Reason.WAITING_FOR_PREVIOUS_ATTEMPT,
    Reason.WAITING_FOR_PREVIOUS_RUN,
    Reason.SUSPENDING,
    Reason.PODS_STARTING,
    Reason.JOB_DELETED,
)
_LONGEST_SLEEP = 600  # seconds: the deadline, and twice the longest wait before an attempt


class Trial(Happenings):
    """A run under a user who changes their mind, a cluster that fails, and an operator that crashes.

    Keeps its own count of what should have been counted.
    """

    def __init__(self, policy: dict[str, int], *, merge: bool) -> None:
        self.restarts = dict.fromkeys(Stage, 0)
        self.active_seconds = 0  # since the run began, without the time held
        self.clock_was_set = False
        self.cluster = CutCluster(
            {
                "model": {"name": "Qwen/Qwen3-8B"},
                "datasets": [_ROWS],
                "distribution": {"nodes": 2},
                "storage": {"volume": {"claimTemplate": {"size": "100Gi"}}},
                "merge": {"enabled": merge},
                "runPolicy": policy,
            }
        )

    # The operator.

    def reconcile(self, _: int) -> None:
        self._account(self.cluster.reconcile())

    def go_well(self, _: int) -> None:
        """Everything does what it should, so that later stages are reached."""
        self._account(self.cluster.reconcile())
        self.cluster.move_on()

    def go_badly(self, number: int) -> None:
        """The attempt that runs fails, and the next one starts when it may: so that restarts are used up."""
        self.fail(number, "permanent" if number == 9 else "counted")
        for job in self.cluster.active():
            self.cluster.pods_stop(job)
        self._account(self.cluster.reconcile())
        self.wait(0)
        self._account(self.cluster.reconcile())

    def crash(self, call: int) -> None:
        self._account(self.cluster.reconcile(crash_before=call % 6))

    def race(self, number: int) -> None:
        """The user is faster than the pass: its status write may meet a changed object."""
        edits = (self.suspend, self.resume, self.change_merge, self.delete_by_hand, self.complete, self.retry)
        self._account(self.cluster.reconcile(meanwhile=lambda: edits[number % 6](number)))

    # What must always hold.

    def check(self) -> None:
        alive = {(pod.run, pod.job, pod.job_uid) for pod in self.cluster.alive()}
        assert len(alive) <= 1, f"pods of two lives at once: {alive}"
        kept = [job.stage for job in self.cluster.jobs.values() if not job.deleting]
        assert all(kept.count(stage) <= KEPT for stage in Stage), "past attempts pile up"
        status = Status.model_validate(self.cluster.status)
        if status.start_time is not None and not self.clock_was_set:
            assert seconds_active(status, self.cluster.now) == self.active_seconds, "time held counts"
        stages = status.stages
        recorded = {stage: record.restarts or 0 for stage in Stage if (record := getattr(stages, stage))}
        assert recorded == {stage: self.restarts[stage] for stage in recorded}

    def come_to_rest(self) -> None:
        """With the faults over, every run comes to an end, and then to rest."""
        self.cluster.refused = self.cluster.claim_lost = False
        self.cluster.rows = True
        self.cluster.clean_up()
        for job in list(self.cluster.jobs.values()):
            if job.lost:
                self.cluster.delete_node(job)
        for pod in self.cluster.strays:
            pod.lost = False
        self.resume(0)
        self.release(0)
        for _ in range(80):
            done = self.cluster.reconcile()
            self._account(done)
            resting = not done.plan.actions and done.plan.status is None
            if resting and self.cluster.phase in OVER:
                mine = (job for job in self.cluster.children() if job in self.cluster.active())
                assert all(job.deleting for job in mine), "pods outlive the run"
                break
            if resting and all(job.kept for job in self.cluster.active()):
                assert done.plan.requeue_after, "nobody will look at the run again"
                self.wait(0)
            self.cluster.move_on()
        assert self.cluster.phase in OVER
        again = self.cluster.reconcile().plan
        assert (again.actions, again.status, again.events) == ((), None, ())

    def succeed_at_last(self) -> None:
        """A run that has failed and is retried by its user has a second life, in which nothing goes wrong."""
        if self.cluster.phase == Phase.FAILED:
            self.retry(0)
            self.come_to_rest()
            assert self.cluster.status["retry"] == self.cluster.spec["runPolicy"]["retry"]
        assert self.cluster.phase == Phase.SUCCEEDED

    def check_merged_as_asked(self) -> None:
        if self.cluster.phase == Phase.SUCCEEDED and self.cluster.spec["merge"]["enabled"]:
            record = Status.model_validate(self.cluster.status).stages.merge
            assert record is not None
            wanted = {key: value for key, value in self.cluster.spec["merge"].items() if key != "enabled"}
            assert self.cluster.config_maps[str(record.job_name)] == wanted

    def _account(self, done: Pass) -> None:
        """Compare a pass with the truth: which attempts were given up, why, and whether that counts."""
        assert done.plan.requeue_after != 0 or done.plan.status is not None, "the operator would spin"
        assert (done.plan.requeue_after or 0) <= _LONGEST_SLEEP, "a clock that was set makes the operator sleep"
        if not done.stored or done.plan.status is None:
            return
        known, after = done.observed.job.status, Status.model_validate(done.plan.status)
        headline = after.condition("Succeeded")
        assert headline is not None
        if headline.reason == Reason.WAITING_FOR_PREVIOUS_ATTEMPT:
            mine = (job for job in self.cluster.children() if job in self.cluster.active())
            assert all(job.deleting for job in mine), "waiting for pods that nobody stops"
        if headline.reason in (Reason.SPEC_CHANGED, Reason.HALF_SCHEDULED):
            assert not any(child.ready for child in done.observed.children), "pods that run are stopped"
        if known.start_time != after.start_time:
            self.active_seconds = 0
        if headline.reason == Reason.MERGE_CHANGED:
            self.restarts[Stage.MERGE] = 0
            return
        if headline.reason == Reason.RETRY_REQUESTED:
            undone = next(s for s in Stage if (c := after.condition(DONE_CONDITION[s])) is None or c.status != "True")
            self.restarts[undone] = 0
            return
        stands_still = done.plan.requeue_after != 0 and headline.reason in _STANDSTILLS
        found = done.observed.known_leftovers if done.observed.leftovers is None else done.observed.leftovers
        seen = (*done.observed.pods, *(leftover.view for leftover in found if leftover.view is not None))
        assert not (stands_still and any(pod.unreachable for pod in seen)), "nobody tells of the lost node"
        if after.phase in OVER:
            return  # an edited merge that is given up here takes the next number, and nothing counts any more
        for stage in Stage:
            old, new = getattr(known.stages, stage) or StageStatus(), getattr(after.stages, stage) or StageStatus()
            if (new.attempt or 1) != (old.attempt or 1):
                self.restarts[stage] += self._counts(done, stage, old)

    def _counts(self, done: Pass, stage: Stage, given_up: StageStatus) -> bool:
        attempt = given_up.attempt or 1
        child = next((c for c in done.observed.children if (c.stage, c.attempt) == (stage, attempt)), None)
        if child is None:  # deleted by hand, or not even started
            return given_up.job_name is not None and not done.observed.job.spec.run_policy.suspend
        job = self.cluster.jobs[child.name]
        ended = [pod.finished_at for pod in job.pods if pod.finished_at is not None]
        kept = job.kept and self.cluster.now - max(ended, default=self.cluster.now) >= timedelta(seconds=30)
        return (child.state is JobState.FAILED or kept) and job.cause == "counted"
