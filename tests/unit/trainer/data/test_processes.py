"""Results come in the items' order whoever is first, and what ends a process is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import StageError, invalid_dataset
from qwensft_trainer.data import processes


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results_keep_the_order_of_the_items(workers: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    assert list(processes.in_order(work, range(12), workers)) == [number * 10 for number in range(12)]


def test_no_more_items_are_taken_than_processes_can_hold() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.3 if number == 0 else 0)
        return number

    results = processes.in_order(work, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 4
    assert list(results) == list(range(1, 50))


def test_large_items_are_done_in_this_process() -> None:
    pids = list(processes.in_order(lambda _: os.getpid(), range(6), 2, here=lambda number: number == 3))
    assert [pid == os.getpid() for pid in pids] == [number == 3 for number in range(6)]


def test_an_error_is_raised_as_it_is_and_the_others_end(tmp_path: Path) -> None:
    def work(number: int) -> None:
        (tmp_path / str(os.getpid())).touch()
        if number == 1:
            raise invalid_dataset("a bad row")
        time.sleep(60)

    with pytest.raises(StageError, match="a bad row") as caught:
        list(processes.in_order(work, range(2), 2))
    assert caught.value.reason == "InvalidDataset"
    assert [pid.name for pid in tmp_path.iterdir() if Path("/proc", pid.name).exists()] == []


class UnpicklableError(Exception):
    """As those of libraries whose constructors take more than a text."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def test_an_error_that_cannot_be_sent_is_told_by_its_words() -> None:
    def work(_: int) -> None:
        raise UnpicklableError("broken", "thing")

    with pytest.raises(RuntimeError, match="UnpicklableError: broken thing"):
        list(processes.in_order(work, range(2), 2))


KILLED = r"exit code -9; -9 is mostly want of memory. Raise memory in spec.prepare"


def test_a_process_that_is_killed_is_told_with_what_to_change() -> None:
    def work(number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(StageError, match=KILLED):
        list(processes.in_order(work, range(9), 2))


def test_so_is_one_that_is_killed_while_it_waits() -> None:
    results = processes.in_order(lambda _: os.getpid(), range(20), 1 + 1)
    os.kill(next(results), signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(StageError, match=KILLED):
        list(results)


@pytest.mark.parametrize(
    ("asked", "memory_gib", "count"), [(None, 64, 8), (None, 2, 3), (None, 0.5, 1), (3, 64, 3), (16, 4, 7)]
)
def test_there_are_as_many_as_cpus_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, memory_gib: float, count: int
) -> None:
    monkeypatch.setattr(processes, "cpu_limit", lambda: 8)
    monkeypatch.setattr(processes, "memory_limit", lambda: int(memory_gib * 2**30))
    assert processes.most(asked) == count
