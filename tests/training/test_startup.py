"""What the status tells of a start is all of it: its parts, one after the other, from the process to the first step."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .gang import Training

PARTS = ("Checks", "Gang", "Imports", "Rendezvous", "Data", "Model", "Setup")


def test_the_parts_of_a_start_add_up(model: Path, tmp_path: Path) -> None:
    training = Training(tmp_path).prepared(model)
    before = time.time()
    with training.attempt(1) as gang:
        started = time.time()
        assert gang.wait() == [0, 0], gang.log(0) + gang.log(1)
        told = gang.report(0)["metrics"]
    began, trained = told["attemptStartedTimestampSeconds"], told["attemptTrainingTimestampSeconds"]
    assert before - 0.1 <= began <= started + 0.1  # with the process, not with what it has imported
    parts = [told[f"attempt{part}Seconds"] for part in PARTS]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(trained - began, abs=0.1)
