"""Network, API server, clock, cluster and user do what they like between any two requests of the operator's runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.operator import OperatorInstance
from tests.faults.wire import Cut

from qwensft.api.v1alpha1 import Stage, StageStatus
from qwensft_operator.runtime.kinds import KINDS
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, PODS, classify

from .world import KEY, World

_ANSWERS = (
    (409, "Conflict"),
    (429, "TooManyRequests"),
    (500, "InternalError"),
    (503, "ServiceUnavailable"),
    (504, "Timeout"),
)
_HAPPENINGS = {
    "look": 6,
    "look_cut": 6,
    "look_refused": 5,
    "look_slowly": 6,
    "look_beside_another": 4,
    "go_well": 6,
    "pods_start": 2,
    "fail": 5,
    "settle": 6,
    "suspend": 2,
    "resume": 3,
    "delete_by_hand": 1,
    "time_passes": 3,
    "clock_is_set": 1,
    "watches_stall": 2,
    "watches_deliver": 3,
}
SCRIPTS = st.lists(
    st.tuples(st.sampled_from([name for name, often in _HAPPENINGS.items() for _ in range(often)]), st.integers(0, 23)),
    min_size=20,
    max_size=50,
)


class Trial:
    """Keeps count of what the operator has to find out: how often each stage has failed."""

    def __init__(self) -> None:
        self.world = World(maxRestarts=3)
        self.failures = dict.fromkeys(Stage, 0)
        self.attempts = dict.fromkeys(Stage, 0)  # the newest that the status has told of
        self.meddled = False  # somebody deleted or held something, so that not every end of a Job is a failure

    async def look(self, _: int) -> None:
        await self.world.look()

    async def look_cut(self, number: int) -> None:
        await self.world.look_cut(number // 4, list(Cut)[number % 4])

    async def look_refused(self, number: int) -> None:
        """A request, be it a read or a write, is answered with an error that passes."""

        async def refuse() -> None:
            status, reason = _ANSWERS[number % len(_ANSWERS)]
            raise classify(status, {"reason": reason, "message": "not now"})

        await self.world.look_while(number // 2, refuse)

    async def look_slowly(self, number: int) -> None:
        """Before one of the pass's requests a pod fails, the user holds the run, or the Job controller moves."""
        doing = (self.fail, self.settle, self.suspend, self.resume, self.pods_start)[number % 5]
        await self.world.look_while(number // 2, lambda: doing(number))

    async def look_beside_another(self, number: int) -> None:
        """Before a request of the first, another operator makes whole passes: it has lost its Lease unnoticed."""
        second = self.world.new_operator()

        async def act() -> None:
            for _ in range(1 + number % 7):
                await self.world.look(second)
                await (self.fail(0) if number % 3 else self.pods_start(0))
                self.world.plane.settle()
                self.world.plane.now += timedelta(seconds=20)

        await self.world.look_while("/status" if number % 2 else number // 2, act)

    async def go_well(self, _: int) -> None:
        await self.world.look()
        await self.world.move_on()

    async def pods_start(self, _: int) -> None:
        for job in self.world.active():
            await self.world.report(job, "")

    async def fail(self, number: int) -> None:
        for job in self.world.active():
            if "deletionTimestamp" not in job["metadata"] and self._untouched(job):
                await self.world.report(job, "Failed", 1, index=number % len(self.world.plane.pods_of(job)))
                self.failures[Stage(job["metadata"]["labels"]["qwensft.io/stage"])] += 1

    async def settle(self, _: int) -> None:
        self.world.plane.settle()

    async def suspend(self, _: int) -> None:
        self.meddled = True
        await self.world.edit(suspend=True)

    async def resume(self, _: int) -> None:
        await self.world.edit(suspend=False)

    async def delete_by_hand(self, number: int) -> None:
        jobs = self.world.plane.of(JOBS.plural)
        if jobs:
            self.meddled = True
            self.world.plane.stop(jobs[number % len(jobs)])

    async def time_passes(self, number: int) -> None:
        self.world.plane.now += timedelta(seconds=10 * number)

    async def clock_is_set(self, number: int) -> None:
        """The clock jumps, and back as well as forth."""
        self.world.plane.now += timedelta(seconds=300 * (number - 11))

    async def watches_stall(self, number: int) -> None:
        """From here on nobody hears of one more kind: neither of what is made, nor of what is deleted."""
        self.world.stalled.add(list(KINDS)[number % len(KINDS)])

    async def watches_deliver(self, _: int) -> None:
        self.world.stalled.clear()

    def check(self) -> None:
        stages = self.world.status.stages
        for stage, failures in self.failures.items():
            record = getattr(stages, stage) or StageStatus()
            attempt, restarts = record.attempt or 0, record.restarts or 0
            assert attempt >= self.attempts[stage], f"{stage} goes back to attempt {attempt}"
            self.attempts[stage] = attempt
            assert restarts <= failures or self.meddled, f"{stage} has failed {failures} times, {restarts} are counted"

    def check_the_end(self) -> None:
        self.check()
        counted = sum((record.restarts or 0) for s in Stage if (record := getattr(self.world.status.stages, s)))
        if self.world.status.phase == "Succeeded" and not self.meddled:
            assert counted == sum(self.failures.values()), "a failure was forgotten"
        assert self.meddled or set(self.world.plane.created.values()) == {1}, "one Job for each attempt"

    def _untouched(self, job: dict[str, Any]) -> bool:
        pods = self.world.plane.pods_of(job)
        return bool(pods) and all(pod["status"]["phase"] in ("Pending", "Running") for pod in pods)


async def weather(script: list[tuple[str, int]]) -> None:
    """Play a script; everything that must hold is asserted."""
    trial = Trial()
    for happening, number in script:
        doing: Callable[[int], Coroutine[Any, Any, None]] = getattr(trial, happening)
        await doing(number)
        trial.check()
        if trial.world.over:
            break
    await trial.world.come_to_rest()
    trial.check_the_end()


@settings(max_examples=60)
@given(script=SCRIPTS)
def test_a_run_survives_every_fault_between_two_requests(script: list[tuple[str, int]]) -> None:
    asyncio.run(weather(script))


async def meet_a_namesake() -> None:
    """A run is deleted and created anew while a deletion of one of the old run's Jobs is under way."""
    world = World(ttlSecondsAfterFinished=0)
    while not world.over:  # without a failure
        await world.look()
        await world.move_on()
    old = {job["metadata"]["uid"] for job in world.plane.of(JOBS.plural)}

    async def anew() -> None:
        """All of the old run goes away, and the new one gets as far as its training."""
        world.recreate()
        operator = world.new_operator()
        while "demo-train-1" not in world.plane.named(JOBS.plural) or old & _uids(world):
            world.plane.settle()
            await world.look(operator)
            await world.move_on()

    await world.look_while("DELETE", anew)
    assert "demo-train-1" in world.plane.named(JOBS.plural)
    assert not [job for job in world.plane.of(JOBS.plural) if "deletionTimestamp" in job["metadata"]]
    await world.come_to_rest()
    assert world.run["status"]["phase"] == "Succeeded"
    assert not [s for s in Stage if (record := getattr(world.status.stages, s)) and record.restarts], "nothing failed"


def _uids(world: World) -> set[str]:
    return {job["metadata"]["uid"] for job in world.plane.of(JOBS.plural)}


async def meet_a_slow_leader() -> None:
    """Between what a leader reads and what it writes, its successor sees two failures."""
    world = World(maxRestarts=3)

    async def fail(operator: OperatorInstance, attempt: int) -> None:
        """Bring the run to the failure of that attempt at its training."""
        while f"demo-train-{attempt}" not in world.plane.named(JOBS.plural):
            await world.look(operator)
            await world.move_on()
        for _ in range(4):
            await world.report(world.plane.objects[JOBS.plural, "team", f"demo-train-{attempt}"], "Failed", 1)
            world.plane.settle()

    async def go_on() -> None:
        """The next leader has seen the same failure, and another one since."""
        await fail(world.new_operator(), 2)
        await world.look(world.new_operator())

    await fail(world.operator, 1)
    await world.look_while("/status", go_on)
    record = world.status.stages.train
    assert record is not None
    assert (record.attempt, record.restarts) == (3, 2), "a failure is forgotten"


async def meet_what_no_watch_has_told() -> None:
    """Another operator has made a Job and told so; of the Job, this one has not heard."""
    world = World(maxRestarts=3)
    second = world.new_operator()
    world.stalled = {JOBS}
    for _ in range(3):
        await second.look(KEY)
        world.deliver(second, KINDS)
    assert world.plane.named(JOBS.plural) == ["demo-prepare-1"]
    await world.look()
    record = world.status.stages.prepare
    assert record is not None
    assert (record.attempt, record.restarts) == (1, None), "a Job is given up that runs"


async def meet_an_old_store() -> None:
    """What this operator knows of the run is older than another's attempt, which somebody has deleted."""
    world = World(maxRestarts=3)
    second = world.new_operator()
    world.stalled = set(KINDS)
    while "demo-prepare-1" not in world.plane.named(JOBS.plural):
        await second.look(KEY)
    world.plane.stop(world.plane.objects[JOBS.plural, "team", "demo-prepare-1"])
    for _ in range(3):
        world.plane.settle()
        world.deliver(second, KINDS)
        await second.look(KEY)
    assert world.plane.named(JOBS.plural) == []
    await world.look()
    assert "demo-prepare-1" not in world.plane.named(JOBS.plural), "a number is used again"


async def test_a_job_of_which_no_watch_has_told_yet_is_not_given_up() -> None:
    await meet_what_no_watch_has_told()


async def test_nothing_is_started_by_a_state_that_has_passed() -> None:
    await meet_an_old_store()


async def meet_a_stranger() -> None:
    """Somebody else's ConfigMap has the name of the run's first one."""
    world = World()
    theirs = {"metadata": {"name": "demo-prepare-1"}, "data": {"run.yaml": "theirs"}}
    world.plane.put(CONFIG_MAPS.plural, "team", theirs)
    for _ in range(3):
        await world.operator.look(KEY)
    condition = next(c for c in world.run["status"]["conditions"] if c["type"] == "Succeeded")
    assert condition["reason"] == "NameConflict"
    assert world.plane.of(JOBS.plural) == [], "its pods would work by somebody else's file"


async def meet_pods_of_which_no_watch_tells() -> None:
    """A pod of an earlier run of the name still writes, and somebody has taken its labels off but one."""
    world = World()
    old = {"batch.kubernetes.io/job-name": "demo-train-1", "batch.kubernetes.io/controller-uid": "old"}
    left = world.plane.put(PODS.plural, "team", {"metadata": {"name": "demo-train-1-0-old", "labels": old}, "spec": {}})
    for _ in range(3):
        await world.look()
    assert world.plane.of(JOBS.plural) == [], "two pods write to one volume"
    left["status"]["phase"] = "Failed"
    await world.come_to_rest()
    assert world.run["status"]["phase"] == "Succeeded"


async def meet_a_definition_that_refuses(*parts: str) -> World:
    """The API server refuses parts of a run's status, and does not say which."""
    world = World()
    world.plane.refused = frozenset(parts)
    for _ in range(20):
        await world.operator.look(KEY)
        world.deliver(world.operator, KINDS)
        await world.move_on()
    return world


async def meet_a_definition_that_refuses_figures() -> None:
    """Without them, the run goes on."""
    world = await meet_a_definition_that_refuses("dataset", "usage")
    assert world.run["status"]["phase"] == "Succeeded"
    assert not {"dataset", "usage"} & world.run["status"].keys()


async def meet_a_definition_that_refuses_what_the_run_goes_by() -> None:
    """Nobody can bring the run forward, which its conditions tell."""
    world = await meet_a_definition_that_refuses("stages")
    condition = next((c for c in world.run["status"].get("conditions", ()) if c["type"] == "Succeeded"), None)
    assert condition is not None, "nobody learns of it"
    assert condition["reason"] == "OperatorError"
    assert set(world.plane.created.values()) == {1}


async def test_nothing_starts_beside_pods_of_which_no_watch_tells() -> None:
    await meet_pods_of_which_no_watch_tells()


async def test_a_status_that_is_refused_is_written_without_figures() -> None:
    await meet_a_definition_that_refuses_figures()


async def test_a_status_that_is_refused_altogether_is_reduced_to_its_conditions() -> None:
    await meet_a_definition_that_refuses_what_the_run_goes_by()


async def test_what_belongs_to_somebody_else_is_neither_used_nor_changed() -> None:
    await meet_a_stranger()


async def test_deletions_that_are_under_way_do_not_reach_a_new_run_of_the_same_name() -> None:
    await meet_a_namesake()


async def test_a_leader_that_is_too_slow_does_not_write_over_its_successors_status() -> None:
    await meet_a_slow_leader()
