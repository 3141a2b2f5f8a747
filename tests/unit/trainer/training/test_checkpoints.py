"""A new attempt goes on from the newest complete checkpoint of the same configuration, and frees those before it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.training import checkpoints, manifests
from qwensft_trainer.training.checkpoints import (
    Checkpoint,
    PassedOver,
    best_of,
    holds_others,
    publish,
    remove_superseded,
)

from ..conftest import UNREADABLE

DIGEST = "sha256:same"
OURS = Experiment("uid-1", DIGEST, None)


def checkpoint(
    root: Path, attempt: int | str, step: int, *, state: str | None = None, sealed: bool = True, **record: Any
) -> Path:
    """A checkpoint as this version leaves it, or one that was cut off before its manifest was written."""
    folder = root / str(attempt) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    attempt_file = folder.parent / "attempt.json"
    attempt_file.write_text(json.dumps(OURS.document() | {"sealed": True} | record))
    text = json.dumps({"global_step": step, "max_steps": 100}) if state is None else state
    (folder / "trainer_state.json").write_text(text)
    (folder / "optimizer.pt").write_text("optimizer")
    if sealed:
        manifests.seal(folder)
    return folder


def newest(root: Path, experiment: Experiment = OURS) -> Checkpoint | None:
    return checkpoints.newest(root, experiment)[0]


def test_there_is_none_before_the_first_attempt(tmp_path: Path) -> None:
    assert newest(tmp_path / "train") is None


def test_the_highest_step_of_all_attempts_wins(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 40)
    best = checkpoint(tmp_path, 2, 60)
    checkpoint(tmp_path, 10, 50)
    found = newest(tmp_path)
    assert found is not None
    assert (found.path, found.step, found.name, found.finished) == (best, 60, "2/checkpoint-60", False)


def test_steps_are_compared_as_numbers_and_ties_go_to_the_later_attempt(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 9)
    checkpoint(tmp_path, 9, 10)
    later = checkpoint(tmp_path, 10, 10)
    found = newest(tmp_path)
    assert found is not None
    assert found.path == later


def test_links_that_others_have_left_are_no_attempts_and_no_checkpoints(tmp_path: Path) -> None:
    """Nothing is read by them, and nothing deleted where they lead."""
    elsewhere = checkpoint(tmp_path / "elsewhere", 1, 60)
    train = tmp_path / "train"
    ours = checkpoint(train, 2, 90)
    (train / "1").symlink_to(elsewhere.parent)
    (train / "3").mkdir()
    (train / "3" / "attempt.json").write_text((ours.parent / "attempt.json").read_text())
    (train / "3" / "checkpoint-60").symlink_to(elsewhere)
    before = sorted(path.name for path in elsewhere.iterdir())
    assert remove_superseded(ours.parent, 1) == []
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    (ours / "qwensft-checkpoint.json").unlink()
    assert newest(train) is None


def test_attempts_are_named_in_their_order_and_those_at_something_else_left_out(tmp_path: Path) -> None:
    for attempt in (10, 2, 1):
        checkpoint(tmp_path, attempt, 10)
    shutil.copytree(tmp_path / "2", tmp_path / "2.2")
    (tmp_path / "1" / "attempt.json").write_text(json.dumps({"configDigest": "sha256:other", "ownerUid": "uid-1"}))
    record = json.loads((tmp_path / "2" / "attempt.json").read_text())
    found = checkpoints.attempts_at(tmp_path, Experiment.of_attempt(record))
    assert [name for name, _ in found] == ["2", "2.2", "10"]
    assert found[0][1] == record


@pytest.mark.parametrize("state", ["", '{"global_step": 6', "[]", '{"global_step": 61, "max_steps": 100}', "{}"])
def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path, state: str) -> None:
    checkpoint(tmp_path, 1, 60, state=state)
    older = checkpoint(tmp_path, 1 + 1, 40)
    found = newest(tmp_path)
    assert found is not None
    assert found.path == older


def test_what_a_failed_save_has_left_goes_and_nothing_else(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 1, 40)
    half = [checkpoint(tmp_path, 1, 60, sealed=False), checkpoint(tmp_path, 1, 80, state="", sealed=False)]
    another = checkpoint(tmp_path, 2, 60, sealed=False)
    assert sorted(checkpoints.remove_incomplete(tmp_path / "1")) == half
    assert [path for path in (whole, *half, another) if path.exists()] == [whole, another]


def test_a_folder_without_state_is_passed_over(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 1, 60) / "trainer_state.json").unlink()
    assert newest(tmp_path) is None


def test_a_checkpoint_that_ends_without_its_manifest_is_passed_over_but_for_those_of_earlier_versions(
    tmp_path: Path,
) -> None:
    checkpoint(tmp_path, 2, 60, sealed=False)
    earlier = checkpoint(tmp_path, 1, 40, sealed=False)
    (tmp_path / "1" / "attempt.json").write_text(json.dumps({"configDigest": DIGEST, "ownerUid": "uid-1"}))
    found, passed_over = checkpoints.newest(tmp_path, OURS)
    assert found is not None
    assert found.path == earlier
    assert [(one.why, one.damaged) for one in passed_over] == [("saving it was never completed", False)]


@pytest.mark.parametrize(
    ("left", "why"), [(None, "optimizer.pt is missing"), ("opti", "optimizer.pt has 4 of 9 bytes")]
)
def test_the_next_older_checkpoint_is_taken_for_one_that_is_not_what_its_manifest_says(
    tmp_path: Path, left: str | None, why: str
) -> None:
    older = checkpoint(tmp_path, 1, 40)
    broken = checkpoint(tmp_path, 2, 60)
    (broken / "optimizer.pt").unlink()
    if left is not None:
        (broken / "optimizer.pt").write_text(left)
    found, passed_over = checkpoints.newest(tmp_path, OURS)
    assert found is not None
    assert (found.path, passed_over) == (older, [PassedOver(broken, why, damaged=True)])


def test_what_was_marked_as_unusable_is_not_tried_again(tmp_path: Path) -> None:
    older = checkpoint(tmp_path, 1, 40)
    manifests.mark(checkpoint(tmp_path, 1, 60), "it does not load")
    found, passed_over = checkpoints.newest(tmp_path, OURS)
    assert found is not None
    assert (found.path, [one.why for one in passed_over]) == (older, ["it does not load"])


@pytest.mark.parametrize("name", ["trainer_state.json", "qwensft-checkpoint.json"])
def test_a_checkpoint_that_cannot_be_read_now_is_an_error_and_not_a_missing_one(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path, 1, 40)
    folder = checkpoint(tmp_path, 2, 60)
    (folder / name).unlink()
    (folder / name).symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output error"):
        newest(tmp_path)


def test_a_manifest_names_what_all_ranks_have_written(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1, 40, sealed=False)
    (folder / "global_step40").mkdir()
    (folder / "global_step40" / "zero_rank_1.pt").write_text("shard")
    manifests.sync_all(folder)
    manifests.seal(folder)
    assert manifests.damage(folder) is None
    (folder / "global_step40" / "zero_rank_1.pt").unlink()
    assert manifests.damage(folder) == "global_step40/zero_rank_1.pt is missing"


def test_every_life_of_an_attempt_has_a_directory_of_its_own(tmp_path: Path) -> None:
    made = [checkpoints.begin(tmp_path / "train", 3).name for _ in range(3)]
    assert made == ["3", "3.2", "3.3"]


def test_later_lives_of_an_attempt_come_after_earlier_ones_and_before_the_next_attempt(tmp_path: Path) -> None:
    for attempt in ("3.2", "3.10", "3"):
        checkpoint(tmp_path, attempt, 40)
    found = newest(tmp_path)
    assert found is not None
    assert found.name == "3.10/checkpoint-40"
    checkpoint(tmp_path, 4, 40)
    found = newest(tmp_path)
    assert found is not None
    assert found.name == "4/checkpoint-40"


def test_another_jobs_checkpoints_are_gone_on_from_only_with_the_same_contents(tmp_path: Path) -> None:
    ours = Experiment("uid-2", DIGEST, "sha256:rows")
    checkpoint(tmp_path, 1, 40, contents="sha256:older-rows")
    assert newest(tmp_path, ours) is None
    assert holds_others(tmp_path, ours)
    same = checkpoint(tmp_path, 2, 20, contents="sha256:rows")
    found = newest(tmp_path, ours)
    assert found is not None
    assert found.path == same


def test_other_configurations_are_not_gone_on_from(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 60, configDigest="sha256:other")
    assert newest(tmp_path) is None


def test_a_checkpoint_of_another_job_with_another_configuration_is_noticed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 60, ownerUid="uid-0")
    checkpoint(tmp_path, 2, 40, configDigest="sha256:other", ownerUid="uid-0", sealed=False)
    assert not holds_others(tmp_path, OURS)
    checkpoint(tmp_path, 2, 60, configDigest="sha256:other", ownerUid="uid-0")
    assert holds_others(tmp_path, OURS)
    ours = {"configDigest": "sha256:of-an-older-trainer", "ownerUid": "uid-1", "sealed": True}
    (tmp_path / "2" / "attempt.json").write_text(json.dumps(ours))
    assert not holds_others(tmp_path, OURS)


def test_a_checkpoint_at_the_last_step_means_finished(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, 100)
    found = newest(tmp_path)
    assert found is not None
    assert found.finished


def test_older_attempts_keep_their_checkpoints_until_the_new_one_has_its_own(tmp_path: Path) -> None:
    old = [checkpoint(tmp_path, 1, 40), checkpoint(tmp_path, 1, 60), checkpoint(tmp_path, 2, 60)]
    checkpoint(tmp_path, 3, 70, sealed=False)
    assert remove_superseded(tmp_path / "3", None) == []
    checkpoint(tmp_path, 3, 80)
    assert sorted(remove_superseded(tmp_path / "3", None)) == sorted(old)
    assert not any(folder.exists() for folder in old)
    assert (tmp_path / "3" / "checkpoint-80").is_dir()


def test_nothing_that_came_further_is_removed(tmp_path: Path) -> None:
    further = checkpoint(tmp_path, 1, 90)
    cut_off = checkpoint(tmp_path, 2, 95, sealed=False)
    checkpoint(tmp_path, 3, 10)
    assert remove_superseded(tmp_path / "3", 1) == []
    assert further.is_dir()
    assert cut_off.is_dir()


def test_of_its_own_checkpoints_an_attempt_keeps_the_newest(tmp_path: Path) -> None:
    for step in (10, 9, 20, 30):
        checkpoint(tmp_path, 1, step)
    assert [folder.name for folder in remove_superseded(tmp_path / "1", 2)] == ["checkpoint-9", "checkpoint-10"]
    assert remove_superseded(tmp_path / "1", 2) == []


def test_the_best_checkpoint_counts_as_one_of_those_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        checkpoint(tmp_path, 1, step)
    checkpoint(tmp_path, 1, 50, state=evaluated(50, "1/checkpoint-10"))
    removed = remove_superseded(tmp_path / "1", 2)
    assert [folder.name for folder in removed] == ["checkpoint-20", "checkpoint-30", "checkpoint-40"]


def test_only_checkpoints_of_the_same_configuration_are_removed(tmp_path: Path) -> None:
    other = checkpoint(tmp_path, 1, 60, configDigest="sha256:other")
    log = checkpoint(tmp_path, 2, 60).parent / "trainer_log.jsonl"
    log.touch()
    checkpoint(tmp_path, 3, 70)
    remove_superseded(tmp_path / "3", None)
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
    last = checkpoint(tmp_path, 2, 60, state=evaluated(60, "1/checkpoint-20"))
    assert remove_superseded(tmp_path / "2", None) == [gone]
    assert best_of(tmp_path, json.loads((last / "trainer_state.json").read_text())) == best
    found = newest(tmp_path)
    assert found is not None
    assert found.path == last


@pytest.mark.parametrize(
    "named", [None, "/workspace/run/train/1/checkpoint-20", "checkpoint-60", "/x/../checkpoint-60"]
)
def test_there_may_be_no_best_checkpoint(tmp_path: Path, named: str | None) -> None:
    checkpoint(tmp_path, 1, 60)
    assert best_of(tmp_path, {"best_model_checkpoint": named}) is None


def test_the_best_checkpoint_is_not_taken_from_where_a_link_leads(tmp_path: Path) -> None:
    best = checkpoint(tmp_path / "elsewhere", 1, 20)
    train = tmp_path / "train"
    last = checkpoint(train, 2, 60, state=evaluated(60, "1/checkpoint-20"))
    (train / "1").symlink_to(best.parent)
    assert best_of(train, json.loads((last / "trainer_state.json").read_text())) is None


@pytest.mark.parametrize(("waited", "ended"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_training_that_early_stopping_ended_is_finished(tmp_path: Path, waited: int, ended: bool) -> None:
    checkpoint(tmp_path, 1, 60, state=evaluated(60, "1/checkpoint-20", waited=waited))
    found = newest(tmp_path)
    assert found is not None
    assert found.finished == ended
