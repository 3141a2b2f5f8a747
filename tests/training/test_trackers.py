"""The trackers' own libraries: what they leave is read back by their own readers, over a restart, too."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qwensft_trainer.contract.config import WeightsAndBiases
from qwensft_trainer.trackers.event_files import EventFiles
from qwensft_trainer.trackers.lines import Entry
from qwensft_trainer.trackers.tracker import Subject, Tracker
from qwensft_trainer.trackers.weights_and_biases import WandbRun

UID = "0f0f0f0f-1111-2222-3333-444444444444"


def subject(directory: Path, attempt: int = 1, step: int = 0) -> Subject:
    return Subject(
        namespace="team",
        name="support-8b",
        uid=UID,
        attempt=attempt,
        step=step,
        directory=directory,
        place="/support-8b-0f0f0f0f",
        run_name="support 8B",
        group="support",
        tags={"team": "support"},
        parameters={"learning_rate": 1e-4, "lora_rank": 8},
    )


def entries(first: int, last: int, loss: Callable[[int], float]) -> list[Entry]:
    return [Entry(step, time.time(), {"loss": loss(step), "epoch": step / 10}) for step in range(first, last + 1)]


def attempt(tracker: Tracker, step: int, told: list[Entry], outcome: Any = "Succeeded") -> tuple[str, str]:
    place = tracker.open(step, ending=False)
    tracker.send(told)
    tracker.close(outcome)
    return place


def scalars(directory: Path, tag: str) -> dict[int, float]:
    """As TensorBoard's own reader sees them: by step, later events in the place of earlier ones."""
    read = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    found = [(event.step, event.value) for event in read.Scalars(tag)]
    assert len(found) == len(dict(found)), "a step is there twice"
    return dict(found)


def test_event_files_hold_each_step_once_though_an_attempt_was_killed_behind_its_checkpoint(tmp_path: Path) -> None:
    first = EventFiles(subject(tmp_path))
    first.open(0, ending=False)
    first.send(entries(1, 7, lambda step: 10.0 - step))  # the checkpoint is at 5; then the pod is gone
    place, _ = attempt(EventFiles(subject(tmp_path, attempt=2, step=5)), 5, entries(6, 10, lambda step: 20.0 - step))
    assert place == "/support-8b-0f0f0f0f/tensorboard"
    losses = scalars(tmp_path, "train/loss")
    assert losses == {step: 10.0 - step if step <= 5 else 20.0 - step for step in range(1, 11)}
    assert sorted(scalars(tmp_path, "train/epoch")) == list(range(1, 11))


def test_evaluations_have_a_group_of_their_own(tmp_path: Path) -> None:
    attempt(EventFiles(subject(tmp_path)), 0, [Entry(5, time.time(), {"eval_loss": 1.5})])
    assert scalars(tmp_path, "eval/loss") == {5: 1.5}


def test_the_worker_imports_none_of_the_libraries() -> None:
    script = """
import sys
from qwensft_trainer.training import imports
imports.run_exp({"stage": "sft", "model_name_or_path": "none"})
print(sorted({"wandb", "mlflow", "tensorboard"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


def test_parameters_are_a_text(tmp_path: Path) -> None:
    attempt(EventFiles(subject(tmp_path)), 0, [])
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    (text,) = read.Tensors("parameters/text_summary")
    assert b"lora_rank: 8" in text.tensor_proto.string_val[0]


def test_an_offline_run_of_wandb_lies_in_the_runs_directory_and_says_who_it_is(tmp_path: Path) -> None:
    offline = WeightsAndBiases(project="ml", mode="offline")
    place, run_id = attempt(WandbRun(subject(tmp_path), offline), 0, entries(1, 5, float))
    assert (place, run_id) == ("/support-8b-0f0f0f0f/wandb", UID)
    (left,) = (tmp_path / "wandb").glob(f"offline-run-*-{UID}/run-{UID}.wandb")
    holds = left.read_bytes()  # records of protobuf, with texts as they are; the library brings no reader
    assert all(text in holds for text in (b"ml", b"support 8B", b"team=support", b"lora_rank", b"support-8b"))
    assert holds.count(b"train/global_step") >= 5


def test_what_an_online_run_of_wandb_could_not_send_is_left_as_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracker = WandbRun(subject(tmp_path), WeightsAndBiases(project="ml"))
    with pytest.raises(Exception, match=r"."):
        tracker.open(0, ending=False)
    tracker.open(0, ending=True)
    tracker.send(entries(1, 5, float))
    tracker.close("Failed")
    (left,) = (tmp_path / "wandb").glob(f"offline-run-*-{UID}/run-{UID}.wandb")
    assert left.read_bytes().count(b"train/global_step") >= 5
