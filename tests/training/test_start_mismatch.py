"""Ranks that were to start from different places leave before the first step: a real process group of two."""

from __future__ import annotations

import shutil
from pathlib import Path

from .gang import Training


def test_ranks_of_different_experiments_train_nothing(model: Path, tmp_path: Path) -> None:
    training = Training(tmp_path).prepared(model)
    training.configurations[1] = shutil.copytree(tmp_path / "etc", tmp_path / "etc-of-another-config-map")
    arguments = training.configurations[1] / "train.yaml"
    arguments.write_text(arguments.read_text().replace("seed: 42", "seed: 43"))
    with training.attempt(1) as gang:
        assert gang.wait() == [1, 1], gang.log(0) + gang.log(1)
        reports = [gang.report(rank) for rank in (0, 1)]
    assert [report["reason"] for report in reports] == ["StartMismatch"] * 2
    assert "ranks 0 and 1 have digest sha256:" in reports[0]["message"]
    assert training.steps(1) == []
    assert not list(training.directory.glob("train/*/checkpoint-*"))
