"""Whatever happens to a run, at whatever moment: it is alone, its attempts are counted right, in the end it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import Phase, Reason, Stage, StageStatus, Status
from qwensft_operator.plan.past import KEPT
from qwensft_operator.plan.run import DONE_CONDITION
from qwensft_operator.plan.suspension import seconds_active
from qwensft_operator.plan.types import JobState

from .cluster import OVER, Pass, SimulatedJob
from .cuts import CutCluster, Disturbances

_ROWS = {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}

# What may happen next, and how often compared with the rest. A number goes with each.
_HAPPENINGS = {
    "reconcile": 8,
    "go_well": 2,
    "go_badly": 4,
    "crash": 6,
    "race": 4,
    "suspend": 3,
    "resume": 4,
    "change_merge": 3,
    "switch_merge": 1,
    "edit_worker": 3,
    "delete_by_hand": 2,
    "delete_in_background": 3,
    "orphan_pods": 2,
    "take_off_labels": 2,
    "take_off_owner": 1,
    "apply_again": 2,
    "strays_end": 3,
    "clean_up": 1,
    "pods_start": 2,
    "complete": 1,
    "half_schedule": 2,
    "hold": 2,
    "release": 3,
    "fail": 4,
    "evict": 3,
    "reject": 2,
    "fail_for_good": 1,
    "outlive": 2,
    "get_stuck": 1,
    "pods_stop": 6,
    "pods_vanish": 1,
    "lose_node": 1,
    "delete_node": 2,
    "switch_quota": 1,
    "switch_claim": 1,
    "switch_rows": 1,
    "wait": 4,
    "time_passes": 2,
    "retry": 3,
    "lose_answer": 4,
    "answer_slowly": 2,
    "set_clock": 1,
}
_STANDSTILLS = (
    Reason.WAITING_FOR_PREVIOUS_ATTEMPT,
    Reason.WAITING_FOR_PREVIOUS_RUN,
    Reason.SUSPENDING,
    Reason.PODS_STARTING,
    Reason.JOB_DELETED,
)
_LONGEST_SLEEP = 600  # seconds: the deadline, and twice the longest wait before an attempt
_AFTER_THE_END = 8  # happenings that a finished run must stand
SCRIPTS = st.lists(
    st.tuples(st.sampled_from([name for name, often in _HAPPENINGS.items() for _ in range(often)]), st.integers(0, 9)),
    min_size=25,
    max_size=60,
)
POLICIES = st.fixed_dictionaries(
    {"maxRestarts": st.integers(0, 2)},
    optional={"activeDeadlineSeconds": st.just(600), "ttlSecondsAfterFinished": st.sampled_from([0, 60])},
)


class Trial(Disturbances):
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

    def _running(self) -> list[SimulatedJob]:
        """Jobs whose pods may come to something."""
        running = (j for j in self.cluster.active() if j.state is JobState.RUNNING)
        return [j for j in running if not (j.lost or j.held or j.kept or j.stuck)]

    def _pick(self, jobs: list[SimulatedJob], number: int) -> list[SimulatedJob]:
        ordered = sorted(jobs, key=lambda job: job.name)
        return [ordered[number % len(ordered)]] if ordered else []

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
        left = (leftover.view for leftover in done.observed.leftovers or () if leftover.view is not None)
        seen = (*done.observed.pods, *left)
        assert not (stands_still and any(pod.unreachable for pod in seen)), "nobody tells of the lost node"
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


def survive(policy: dict[str, Any], script: list[tuple[str, int]], *, merge: bool, head_start: int) -> None:
    """Play a script on a run that has gone well for a while; everything that must hold is asserted."""
    trial = Trial(policy, merge=merge)
    for _ in range(head_start):
        trial.go_well(0)
    patience = _AFTER_THE_END
    for happening, number in script:
        getattr(trial, happening)(number)
        trial.check()
        patience = patience - 1 if trial.cluster.phase in OVER else _AFTER_THE_END
        if patience == 0:
            break
    trial.come_to_rest()
    trial.check()
    trial.check_merged_as_asked()
    trial.succeed_at_last()
    trial.check()
    trial.check_merged_as_asked()


@settings(max_examples=200)
@given(policy=POLICIES, merge=st.booleans(), head_start=st.integers(0, 7), script=SCRIPTS)
def test_a_run_survives_whatever_happens(
    policy: dict[str, Any], *, merge: bool, head_start: int, script: list[tuple[str, int]]
) -> None:
    survive(policy, script, merge=merge, head_start=head_start)


def _whole_run(cut_at: int | None = None, *, lands: bool = False) -> CutCluster:
    """Play a run of which the first training fails, with an operator that dies at one of all its writes."""
    trial = Trial({"maxRestarts": 2}, merge=True)
    trial.cluster.cut_at, trial.cluster.lands = cut_at, lands
    for _ in range(60):
        trial.reconcile(0)
        failed = trial.cluster.newest.get(Stage.TRAIN) == 1 and trial.cluster.active(Stage.TRAIN)
        if failed and failed[0].ready and not failed[0].cause:
            trial.fail(0)
        else:
            trial.cluster.move_on()
        trial.time_passes(1)
        trial.check()
        if trial.cluster.phase in OVER:
            return trial.cluster
    raise AssertionError("the run does not end")


def test_an_operator_that_dies_before_or_after_any_write_leaves_what_an_undisturbed_one_leaves() -> None:
    expected = _whole_run()
    assert (expected.phase, expected.newest) == (
        Phase.SUCCEEDED,
        {Stage.PREPARE: 1, Stage.TRAIN: 2, Stage.MERGE: 1},
    )
    for cut_at in range(expected.writes):
        for lands in (False, True):
            left = _whole_run(cut_at, lands=lands)
            assert (left.phase, left.newest, left.jobs.keys()) == (
                expected.phase,
                expected.newest,
                expected.jobs.keys(),
            )
            assert left.status["restarts"] == expected.status["restarts"] == 1
            assert left.status["outputs"] == expected.status["outputs"]
