"""A new attempt goes on from the newest complete checkpoint of the same configuration, and frees those before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwensft_trainer.training.checkpoints import best_of, holds_others, newest_complete, publish, remove_superseded

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


def test_a_checkpoint_of_another_job_with_another_configuration_is_noticed(tmp_path: Path) -> None:
    def noticed() -> bool:
        return holds_others(tmp_path, DIGEST, owner_uid="uid-2")

    checkpoint(tmp_path, 1, 60)
    (checkpoint(tmp_path, 2, 40, digest="sha256:other") / "trainer_state.json").unlink()
    assert not noticed()
    checkpoint(tmp_path, 2, 60, digest="sha256:other")
    assert noticed()
    ours = {"configDigest": "sha256:of-an-older-trainer", "ownerUid": "uid-2"}
    (tmp_path / "2" / "attempt.json").write_text(json.dumps(ours))
    assert not noticed()


def test_a_checkpoint_at_the_last_step_means_finished(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 100)
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.finished


def test_older_attempts_keep_their_checkpoints_until_the_new_one_has_its_own(tmp_path: Path) -> None:
    old = [checkpoint(tmp_path, 1, 40), checkpoint(tmp_path, 1, 60), checkpoint(tmp_path, 2, 60)]
    (checkpoint(tmp_path, 3, 70) / "trainer_state.json").unlink()
    assert remove_superseded(tmp_path / "3") == []
    checkpoint(tmp_path, 3, 80)
    assert sorted(remove_superseded(tmp_path / "3")) == sorted(old)
    assert not any(folder.exists() for folder in old)
    assert (tmp_path / "3" / "checkpoint-80").is_dir()


def test_only_checkpoints_of_the_same_configuration_are_removed(tmp_path: Path) -> None:
    other = checkpoint(tmp_path, 1, 60, digest="sha256:other")
    log = checkpoint(tmp_path, 2, 60).parent / "trainer_log.jsonl"
    log.touch()
    checkpoint(tmp_path, 3, 70)
    remove_superseded(tmp_path / "3")
    assert other.is_dir()
    assert log.is_file()


def test_the_last_checkpoint_is_published_without_what_only_a_resume_needs(tmp_path: Path) -> None:
    last = checkpoint(tmp_path, 1, 100)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "latest", "zero_to_fp32.py"):
        (last / name).write_text("new")
    (last / "global_step100").mkdir()
    (tmp_path / "1" / "model.safetensors").write_text("half")
    for _ in range(2):  # the pod may die in between
        assert publish(last, tmp_path / "1") == tmp_path / "1"
    assert (tmp_path / "1" / "model.safetensors").read_text() == "new"
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert names == {"attempt.json", "checkpoint-100", "model.safetensors", "trainer_state.json"}


def evaluated(step: int, best: str, *, waited: int = 0, patience: int = 3) -> str:
    """A state as transformers 5.5.4 writes it, in a pod whose volume was mounted elsewhere."""
    callback = {
        "args": {"early_stopping_patience": patience, "early_stopping_threshold": 0.0},
        "attributes": {"early_stopping_patience_counter": waited},
    }
    return json.dumps(
        {
            "global_step": step,
            "max_steps": 100,
            "best_global_step": int(best.rpartition("-")[2]),
            "best_metric": 1.5,
            "best_model_checkpoint": f"/workspace/run/train/{best}",
            "stateful_callbacks": {"EarlyStopping": callback, "TrainerControl": {"args": {}, "attributes": {}}},
        }
    )


def test_the_best_checkpoint_is_found_in_an_earlier_attempt_and_outlives_it(tmp_path: Path) -> None:
    best = checkpoint(tmp_path, 1, 20)
    gone = checkpoint(tmp_path, 1, 40)
    newest = checkpoint(tmp_path, 2, 60, state=evaluated(60, "1/checkpoint-20"))
    assert remove_superseded(tmp_path / "2") == [gone]
    assert best_of(tmp_path, json.loads((newest / "trainer_state.json").read_text())) == best
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.path == newest


@pytest.mark.parametrize(
    "named", [None, "/workspace/run/train/1/checkpoint-20", "checkpoint-60", "/x/../checkpoint-60"]
)
def test_there_may_be_no_best_checkpoint(tmp_path: Path, named: str | None) -> None:
    checkpoint(tmp_path, 1, 60)
    assert best_of(tmp_path, {"best_model_checkpoint": named}) is None


@pytest.mark.parametrize(("waited", "ended"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_training_that_early_stopping_ended_is_finished(tmp_path: Path, waited: int, ended: bool) -> None:
    checkpoint(tmp_path, 1, 60, state=evaluated(60, "1/checkpoint-20", waited=waited))
    found = newest_complete(tmp_path, DIGEST)
    assert found is not None
    assert found.finished == ended
