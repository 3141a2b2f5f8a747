"""A tracker is told everything in order, whatever happens to it meanwhile, and how the attempt ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from qwensft_trainer.trackers import lines
from qwensft_trainer.trackers.lines import Entry, Lines, Outcome
from qwensft_trainer.trackers.told import Board, Told, gauges, read
from qwensft_trainer.trackers.tracker import serve


class AwayError(Exception):
    """What a library raises of a server that does not answer."""


class Recorder:
    """Keeps what it is told; `away` says whether the next call fails."""

    name = "recorder"

    def __init__(self, away: Callable[[], bool] = lambda: False) -> None:
        self._away = away
        self.steps: list[int] = []
        self.opened: list[tuple[int, bool]] = []
        self.outcomes: list[Outcome] = []

    def open(self, step: int, *, ending: bool) -> tuple[str, str]:
        self._answer()
        self.opened.append((step, ending))
        return "http://tracker/runs/7", "7"

    def send(self, entries: Sequence[Entry]) -> None:
        self._answer()
        self.steps += [entry.step for entry in entries]

    def close(self, outcome: Outcome) -> None:
        self._answer()
        self.outcomes.append(outcome)

    def _answer(self) -> None:
        if self._away():
            raise AwayError("connection refused")


class Training:
    """Logs a step whenever the reporting thread waits, and ends after the last."""

    def __init__(self, path: Path, steps: Iterator[int], outcome: Outcome = "Succeeded") -> None:
        self.path, self._steps, self._outcome = path, steps, outcome
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        step = next(self._steps, None)
        if step is not None:
            lines.append(self.path, step, {"loss": 1.0 / step})
        elif not Lines(self.path).ended():
            lines.end(self.path, self._outcome)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def test_all_steps_arrive_once_and_in_order(path: Path) -> None:
    told: list[Told] = []
    recorder, training = Recorder(), Training(path, iter(range(1, 101)))
    serve(recorder, Lines(path), told.append, step=0, sleep=training.sleep)
    assert recorder.steps == list(range(1, 101))
    assert recorder.opened == [(0, False)]
    assert recorder.outcomes == ["Succeeded"]
    assert told[-1] == Told("recorder", "http://tracker/runs/7", "7", 0)


@pytest.mark.parametrize("outcome", ["Failed", "Interrupted"])
def test_how_an_attempt_ended_is_told(path: Path, outcome: Outcome) -> None:
    recorder, training = Recorder(), Training(path, iter([1]), outcome)
    serve(recorder, Lines(path), lambda told: None, step=0, sleep=training.sleep)
    assert recorder.outcomes == [outcome]


def test_nothing_is_lost_while_a_tracker_is_away(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[bool] = []

    def away() -> bool:
        asked.append(20 <= len(asked) < 40)  # 20 times in a row
        return asked[-1]

    told: list[Told] = []
    recorder, training = Recorder(away), Training(path, iter(range(1, 5_001)))
    serve(recorder, Lines(path), told.append, step=0, sleep=training.sleep)
    assert recorder.steps == list(range(1, 5_001))
    assert recorder.outcomes == ["Succeeded"]
    assert max(one.undelivered for one in told) > 500
    assert told[-1].undelivered == 0
    # 20 failures are told of five times: the first, second, fourth, eighth and sixteenth.
    assert capsys.readouterr().out.count("cannot report (AwayError: connection refused)") == 5


def test_a_tracker_that_was_away_goes_on_before_the_first_step_that_it_lacks(path: Path) -> None:
    answers = iter([False, False, True])  # opens, has the first steps, is away
    recorder = Recorder(lambda: next(answers, False))
    training = Training(path, iter(range(1, 41)))
    serve(recorder, Lines(path), lambda told: None, step=0, sleep=training.sleep)
    (first, _), (second, _) = recorder.opened
    assert first == 0
    assert recorder.steps == list(range(1, 41))
    assert recorder.steps[second] == second + 1  # the next after the step that it goes on from


def test_once_the_attempt_is_over_a_tracker_learns_that_it_is_the_last_try(path: Path) -> None:
    recorder = Recorder(lambda: not Lines(path).ended())
    training = Training(path, iter([1, 2]))
    serve(recorder, Lines(path), lambda told: None, step=0, sleep=training.sleep)
    assert recorder.opened == [(0, True)]
    assert recorder.steps == [1, 2]


def test_a_disk_in_trouble_ends_no_reporting(path: Path, tmp_path: Path) -> None:
    recorder, training = Recorder(), Training(path, iter(range(1, 11)))
    (tmp_path / "told").touch()  # in the place of a directory
    board = Board(tmp_path / "told" / "told.json")
    waits = iter(range(100))

    def sleep(seconds: float) -> None:
        wait = next(waits)
        if wait == 2:
            path.rename(tmp_path / "away")
            path.symlink_to("/proc/self/mem")  # reading it gives EIO
        elif wait == 12:
            path.unlink()
            (tmp_path / "away").rename(path)
        if not 2 <= wait < 12:
            training.sleep(seconds)

    serve(recorder, Lines(path), board.tell, step=0, sleep=sleep)
    assert recorder.steps == list(range(1, 11))
    (tmp_path / "told").unlink()
    board.tell(Told("recorder", "http://tracker/runs/7", "7", 0))
    assert read(tmp_path / "told" / "told.json") == [Told("recorder", "http://tracker/runs/7", "7", 0)]


def test_what_is_known_of_trackers_is_served_as_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    assert list(gauges(read(path))) == []
    board = Board(path)
    board.tell(Told("mlflow", "http://mlflow/#/runs/7", "7", 3))
    board.tell(Told("tensorboard", "/run/tensorboard"))
    assert read(path)[0].document() == {
        "name": "mlflow",
        "url": "http://mlflow/#/runs/7",
        "runId": "7",
        "undelivered": 3,
    }
    (gauge,) = gauges(read(path))
    assert [(sample.labels["tracker"], sample.value) for sample in gauge.samples] == [("mlflow", 3), ("tensorboard", 0)]
