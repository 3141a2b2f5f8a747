"""A new attempt goes on from the newest complete checkpoint of the same configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwensft_trainer.checkpoints import newest_complete

DIGEST = "sha256:same"


def checkpoint(root: Path, attempt: int, step: int, *, state: str | None = None, digest: str = DIGEST) -> Path:
    directory = root / str(attempt)
    folder = directory / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (directory / "attempt.json").write_text(json.dumps({"configDigest": digest}))
    text = json.dumps({"global_step": step, "max_steps": 100}) if state is None else state
    (folder / "trainer_state.json").write_text(text)
    return folder


def test_there_is_none_before_the_first_attempt(tmp_path: Path) -> None:
    assert newest_complete(tmp_path / "train", DIGEST) is None


def test_the_highest_step_of_all_attempts_wins(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 40)
    best = checkpoint(tmp_path, 2, 60)
    checkpoint(tmp_path, 10, 50)
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert (found.path, found.step, found.attempt, found.finished) == (best, 60, 2, False)


def test_steps_are_compared_as_numbers_and_ties_go_to_the_later_attempt(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 9)
    checkpoint(tmp_path, 9, 10)
    later = checkpoint(tmp_path, 10, 10)
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.path == later


@pytest.mark.parametrize("state", ["", '{"global_step": 6', "[]", '{"global_step": 61, "max_steps": 100}', "{}"])
def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path, state: str) -> None:
    checkpoint(tmp_path, 1, 60, state=state)
    older = checkpoint(tmp_path, 1 + 1, 40)
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.path == older


def test_a_folder_without_state_is_passed_over(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 1, 60) / "trainer_state.json").unlink()
    assert newest_complete(tmp_path, DIGEST) is None


def test_other_configurations_are_not_gone_on_from(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 60, digest="sha256:other")
    assert newest_complete(tmp_path, DIGEST) is None


def test_a_checkpoint_at_the_last_step_means_finished(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 100)
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.finished
