"""The operator dies, or is left in doubt, at each of its writes: what comes out is what would have come out anyway."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from tests.faults.outcome import Outcome, outcome_of
from tests.faults.wire import Cut, Line

from .world import KEY, World


async def play(line: Line) -> tuple[Outcome, Counter[str], Counter[str]]:
    """Play the run of `KubeletHand` on that line.

    Returns:
        What is left, how often each Job was created, and what the operators have counted.
    """
    world = World(line)
    for _ in range(150):
        wrote = await world.look()
        if world.over and not wrote:
            return await outcome_of(world.kube, *KEY), world.plane.created, world.counted
        await world.kubelet.move()
        world.plane.settle()
        world.plane.now += timedelta(seconds=5)
    raise AssertionError(f"the run does not end: {world.run['status']}")


UNDISTURBED = Line()
EXPECTED, _, COUNTED = asyncio.run(play(UNDISTURBED))
MOST_IN_A_STATUS = 2  # that the merge is done, and the run has ended


def check(number: int, how: Cut) -> None:
    """Cut that write; what is left must be what is expected."""
    line = Line(cut_at=number, how=how)
    left, created, counted = asyncio.run(play(line))
    assert left == EXPECTED
    assert counted <= COUNTED, "nothing is counted twice, whatever operator comes after"
    assert counted.total() >= COUNTED.total() - MOST_IN_A_STATUS, "what is lost is what one status told"
    assert set(created.values()) == {1}, "one Job for each attempt"
    for reason, count in left.events.items():
        assert count <= EXPECTED.events[reason] + 1, f"{reason} is told {count} times"
    assert line.events <= UNDISTURBED.events + 2, "a storm of Events"


def test_the_undisturbed_run_is_the_one_that_these_tests_are_about() -> None:
    assert EXPECTED.status["phase"] == "Succeeded"
    assert EXPECTED.status["restarts"] == 1
    assert EXPECTED.objects["jobs"] == ["RUN-merge-1", "RUN-prepare-1", "RUN-train-1", "RUN-train-2"]
    assert EXPECTED.status["outputs"].keys() == {"adapter", "merged"}
    assert len(UNDISTURBED.writes) > 30
    assert COUNTED.keys() == {"prepare done", "train again: OutOfMemory", "train done", "merge done", "Succeeded"}


@pytest.mark.parametrize("how", Cut, ids=lambda how: how.name)
@pytest.mark.parametrize("number", range(len(UNDISTURBED.writes)))
def test_whatever_write_is_cut_the_run_ends_as_if_nothing_had_been(number: int, how: Cut) -> None:
    check(number, how)
