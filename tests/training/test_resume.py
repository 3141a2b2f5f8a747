"""A training that dies, is drained or taken away, and goes on, ends with the same bits as one that nobody disturbed.

LoRA on two nodes: dropout, two batches a step, shuffled rows, three epochs, a checkpoint every four steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk  # type: ignore[import-not-found, unused-ignore]

from qwensft_trainer.training import manifests

from .gang import ARGUMENTS, LAST_SAVED, SAVE_STEPS, Training


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("undisturbed")).prepared(model)
    training.train(1)
    return training


def begun(training: Training, name: str) -> dict[str, Any]:
    """What an attempt has begun with."""
    record: dict[str, Any] = json.loads((training.directory / "train" / name / "attempt.json").read_text())
    return record


def test_an_undisturbed_training_gives_the_same_bits_twice(model: Path, undisturbed: Training, tmp_path: Path) -> None:
    again = Training(tmp_path).prepared(model)
    again.train(1)
    assert again.weights() == undisturbed.weights()


def test_a_worker_that_is_killed_between_two_checkpoints_costs_no_bit(
    model: Path, undisturbed: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path).prepared(model)
    training.die()
    training.train(2)
    assert begun(training, "2")["resumeStep"] == LAST_SAVED
    assert training.weights() == undisturbed.weights()
    left = sorted(path.name for path in (training.directory / "train").glob("*/checkpoint-*"))
    assert left == ["checkpoint-16", "checkpoint-18"]


def test_rows_grouped_by_length_come_in_the_same_order_after_a_restart(model: Path, tmp_path: Path) -> None:
    grouped = {"train_sampling_strategy": "group_by_length"}
    undisturbed, killed = (
        Training(tmp_path / name, arguments=grouped).prepared(model) for name in ("undisturbed", "killed")
    )
    undisturbed.train(1)
    rows = load_from_disk(undisturbed.directory / "data" / "tokenized")["train"]["input_ids"]
    each_row_in_each_epoch = sum(map(len, rows)) * ARGUMENTS["num_train_epochs"]
    assert undisturbed.tokens(1) == each_row_in_each_epoch  # ranks that disagree would take some twice, and leave some
    killed.die()
    killed.train(2)
    assert begun(killed, "2")["resumeStep"] == LAST_SAVED
    assert killed.tokens(2) == each_row_in_each_epoch
    assert killed.weights() == undisturbed.weights()


def test_a_checkpoint_that_does_not_load_costs_the_steps_since_the_one_before_and_no_bit(
    model: Path, undisturbed: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path).prepared(model)
    training.die()
    spoilt = training.directory / "train" / "1" / f"checkpoint-{LAST_SAVED}"
    optimizer = spoilt / "optimizer.pt"
    optimizer.write_bytes(bytes(optimizer.stat().st_size))
    manifests.seal(spoilt)  # it was so when it was saved: only loading finds out
    with training.attempt(2) as gang:
        assert all(gang.wait())
        assert f"takes an older checkpoint than 1/checkpoint-{LAST_SAVED}" in gang.report(0)["message"]
    assert "does not load" in json.loads((spoilt / "qwensft-unusable.json").read_text())["why"]
    training.train(3)
    assert begun(training, "3")["resumeStep"] == SAVE_STEPS
    assert training.weights() == undisturbed.weights()


@pytest.mark.parametrize("asked", [[0, 1], [1]], ids=["a queue takes all pods", "one node is drained"])
def test_pods_that_are_told_to_stop_save_first_and_cost_no_step_and_no_bit(
    model: Path, undisturbed: Training, tmp_path: Path, asked: list[int]
) -> None:
    training = Training(tmp_path).prepared(model)
    with training.attempt(1) as gang:
        gang.until(lambda: max(training.steps(1), default=0) > LAST_SAVED)
        for rank in asked:
            gang.ask_to_stop(rank)
        assert gang.wait() == [143, 143], gang.log(0) + gang.log(1)
        assert [gang.report(rank)["reason"] for rank in (0, 1)] == ["Interrupted"] * 2
    stopped = max(training.steps(1))
    # A queue gives the same attempt back, with new pods under the old names; the operator takes the next number.
    attempt, name = (1, "1.2") if len(asked) > 1 else (2, "2")
    training.train(attempt)
    assert begun(training, name)["resumeStep"] == stopped
    assert training.weights() == undisturbed.weights()


def test_the_comparison_notices_what_is_not_gone_on_with(model: Path, undisturbed: Training, tmp_path: Path) -> None:
    training = Training(tmp_path).prepared(model)
    training.die()
    folder = training.directory / "train" / "1" / f"checkpoint-{LAST_SAVED}"
    listed = json.loads((folder / "qwensft-checkpoint.json").read_text())
    for path in folder.glob("rng_state_*.pth"):
        path.unlink()
        del listed["files"][path.name]
    (folder / "qwensft-checkpoint.json").write_text(json.dumps(listed))
    training.train(2)
    assert begun(training, "2")["resumeStep"] == LAST_SAVED
    assert training.weights() != undisturbed.weights()
