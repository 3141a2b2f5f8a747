"""Training that stands still is noticed, and its processes tell where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qwensft_trainer.training import stalls
from qwensft_trainer.training.stalls import Pulse, Stall, Watch

from ..waiting import eventually


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_training_stands_still_when_no_step_ends_in_time(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 60.0, clock)
    assert watch.stalled() is None, "nothing was begun"
    Pulse(tmp_path, clock).mark(3)
    clock.now += 59
    assert watch.stalled() is None
    clock.now += 1
    assert watch.stalled() == Stall(60.0, 3)


def test_every_step_starts_the_time_anew(tmp_path: Path, clock: Clock) -> None:
    pulse, watch = Pulse(tmp_path, clock), Watch(tmp_path, 60.0, clock)
    for step in range(100):
        pulse.mark(step)
        clock.now += 50
        assert watch.stalled() is None


def test_a_checkpoint_takes_the_time_that_it_takes(tmp_path: Path, clock: Clock) -> None:
    pulse, watch = Pulse(tmp_path, clock), Watch(tmp_path, 60.0, clock)
    pulse.mark(3)
    pulse.mark(3, waits=False)
    clock.now += 10_000
    assert watch.stalled() is None
    pulse.mark(3)
    clock.now += 61
    assert watch.stalled() == Stall(61.0, 3)


def test_without_a_limit_nothing_is_a_stall(tmp_path: Path, clock: Clock) -> None:
    Pulse(tmp_path, clock).mark(1)
    clock.now += 1e6
    assert Watch(tmp_path, 0, clock).stalled() is None


def test_fast_steps_are_written_once_a_second(tmp_path: Path, clock: Clock) -> None:
    pulse, written = Pulse(tmp_path, clock), set()
    for step in range(100):
        pulse.mark(step)
        written.add((tmp_path / "activity.json").read_text())
        clock.now += 0.125
    assert len(written) == 13


PROGRAM = """
import sys, threading, time
from pathlib import Path
from qwensft_trainer.training import stalls
def loads_a_batch():
    time.sleep(600)
threading.Thread(target=loads_a_batch, daemon=True).start()
stalls.answer_with_stacks(Path(sys.argv[1]), int(sys.argv[2]))
def waits_for_the_others():
    time.sleep(600)
waits_for_the_others()
"""


def test_every_process_shows_the_stacks_of_all_its_threads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(rank)]) for rank in range(2)]
    try:
        eventually(lambda: len(list(tmp_path.glob("stacks-*"))) == 2)
        stalls.show_stacks(tmp_path, tmp_path / "kept" / "node-0.txt")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    shown = capfd.readouterr().out
    assert (tmp_path / "kept" / "node-0.txt").read_text() == shown
    first, second = shown.split("stacks of local rank 1")
    for told in (first, second):
        assert "in waits_for_the_others" in told
        assert "in loads_a_batch" in told
    assert f"local rank 0 (process {processes[0].pid})" in first


def test_a_process_that_has_ended_and_a_volume_that_fails_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"stacks-0-{ended.pid}.txt").touch()
    (tmp_path / "file").touch()
    stalls.show_stacks(tmp_path, tmp_path / "file" / "node-0.txt")
    shown = capfd.readouterr().out
    assert "the process has ended" in shown
    assert "the stacks are in this log alone" in shown
