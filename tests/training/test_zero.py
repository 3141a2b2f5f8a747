"""The same for full training with ZeRO-3, whose checkpoints have a part for each rank."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from .gang import LAST_SAVED, Training

pytestmark = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def test_a_worker_that_is_killed_between_two_checkpoints_costs_no_bit_with_zero_3(model: Path, tmp_path: Path) -> None:
    undisturbed = [Training(tmp_path / name, zero=True).prepared(model) for name in ("one", "two")]
    for training in undisturbed:
        training.train(1)
    assert undisturbed[0].weights() == undisturbed[1].weights()
    killed = Training(tmp_path / "killed", zero=True).prepared(model)
    killed.die()
    killed.train(2)
    record = json.loads((killed.directory / "train" / "2" / "attempt.json").read_text())
    assert record["resumeStep"] == LAST_SAVED
    assert killed.weights() == undisturbed[0].weights()
