"""Signs of life are given in the places where transformers' Trainer calls."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of the real class, with the real base where the trainer's libraries are installed."""
    if importlib.util.find_spec("transformers") is None:
        monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
    return importlib.import_module("qwensft_trainer.training.pulse").PulseCallback(tmp_path)


def waits(scratch: Path) -> bool:
    """Whether the next step is waited for."""
    told: bool = json.loads((scratch / "activity.json").read_text())["waits"]
    return told


def test_a_checkpoint_and_what_follows_the_last_step_are_not_waited_for(callback: Any, tmp_path: Path) -> None:
    state, control = SimpleNamespace(global_step=5), SimpleNamespace(should_save=False)
    callback.on_train_begin(None, state, control)
    assert waits(tmp_path)
    control.should_save = True
    callback.on_step_end(None, state, control)
    assert not waits(tmp_path)
    callback.on_prediction_step(None, state, control)
    assert waits(tmp_path), "an evaluation comes before the checkpoint"
    callback.on_evaluate(None, state, control)
    assert not waits(tmp_path)
    callback.on_save(None, state, control)
    assert waits(tmp_path)
    control.should_save = False
    callback.on_train_end(None, state, control)
    callback.on_prediction_step(None, state, control)
    assert not waits(tmp_path)
