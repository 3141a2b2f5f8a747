"""What a training logs is read again line by line, and only what a tracker has taken is done with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.trackers import lines
from qwensft_trainer.trackers.lines import Lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def test_before_anything_is_logged_there_is_nothing_to_tell(path: Path) -> None:
    reader = Lines(path)
    assert (reader.next().entries, reader.undelivered(), reader.ended()) == ([], 0, False)


def test_entries_come_again_until_they_are_taken(path: Path) -> None:
    reader = Lines(path)
    lines.append(path, 1, {"loss": 2.5, "epoch": 0.1, "note": "no number"})
    first = reader.next()
    assert [(e.step, e.values) for e in first.entries] == [(1, {"loss": 2.5, "epoch": 0.1})]
    lines.append(path, 2, {"loss": 2.0})
    assert [e.step for e in reader.next().entries] == [1, 2]
    assert reader.undelivered() == 2
    reader.take(first)
    assert [e.step for e in reader.next().entries] == [2]
    assert reader.undelivered() == 1


def test_each_line_that_waits_is_looked_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a tracker is away, and however often it is asked how much waits for it."""
    reader, looked = Lines(path), []
    read = lines._read

    def look(line: bytes) -> Any:
        looked.append(line)
        return read(line)

    monkeypatch.setattr(lines, "_MOST_BYTES", 300)
    monkeypatch.setattr(lines, "_read", look)
    for step in range(1, 101):
        lines.append(path, step, {"loss": 1.0})
        assert reader.undelivered() == step
    assert len(looked) == 100
    reader.take(batch := reader.next())
    assert reader.undelivered() == 100 - len(batch.entries)


def test_a_number_that_is_not_finite_is_told_as_it_is(path: Path) -> None:
    lines.append(path, 1, {"loss": float("nan")})
    (entry,) = Lines(path).next().entries
    assert entry.values["loss"] != entry.values["loss"]


def test_the_end_comes_after_what_was_logged_before_it(path: Path) -> None:
    reader = Lines(path)
    lines.append(path, 1, {"loss": 2.5})
    lines.end(path, "Interrupted")
    logged = reader.next()
    assert (len(logged.entries), logged.outcome, reader.ended()) == (1, None, True)
    reader.take(logged)
    assert reader.next().outcome == "Interrupted"


def test_the_half_line_of_a_worker_that_was_killed_is_left_out(path: Path) -> None:
    reader = Lines(path)
    lines.append(path, 1, {"loss": 2.5})
    with path.open("a") as file:
        file.write('{"step": 2, "ti')
    assert [e.step for e in reader.next().entries] == [1]
    lines.end(path, "Failed")
    assert not lines.Lines(path.with_name("another")).ended()
    reader.take(reader.next())
    assert (reader.next().outcome, reader.undelivered()) == ("Failed", 0)


def test_a_long_training_is_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST_BYTES", 300)
    reader, steps = Lines(path), []
    for step in range(50):
        lines.append(path, step, {"loss": 1.0})
    lines.end(path, "Succeeded")
    while (batch := reader.next()).outcome is None:
        assert len(batch.entries) < 10
        steps += [entry.step for entry in batch.entries]
        reader.take(batch)
    assert steps == list(range(50))
