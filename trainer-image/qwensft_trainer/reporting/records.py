"""Reads what the stages have left of a run on its volume. What an earlier version has not recorded is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.model import source as model_source
from qwensft_trainer.reporting.losses import Losses, losses
from qwensft_trainer.training import checkpoints, progress, samples
from qwensft_trainer.training.samples import Samples


@dataclass(frozen=True)
class Records:
    """prepare.json, train.json and merge.json, {} where there is none.

    `arguments` are LLaMA-Factory's, which train.json has as text. `attempts` are names and records (attempt.json) of
    the training's attempts, `commit` is that of the base on its hub. `samples` are those of this result, None unless
    they are asked for.
    """

    prepared: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    merged: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attempts: Sequence[tuple[str, Mapping[str, Any]]] = ()
    losses: Losses = field(default_factory=Losses)
    commit: str | None = None
    samples: Samples | None = None


def read(run: Run) -> Records:
    """The records of a run whose training is done. Raises OSError for a volume in trouble."""
    prepared, trained, merged, pin = (
        files.read_json_object(path) or {}
        for path in (run.prepare_result, run.train_result, run.merge_result, run.run_directory / model_source.PIN)
    )
    directory = run.run_directory / str(trained.get("directory"))
    state = checkpoints.read_state(directory) or {}
    return Records(
        prepared=prepared,
        trained=trained,
        merged=merged,
        arguments=yaml.safe_load(trained.get("arguments", "{}")),
        attempts=checkpoints.attempts_at(run.run_directory / "train", Experiment.of_attempt(trained)),
        losses=losses(_text(directory / progress.TRAINER_LOG), state.get("log_history", [])),
        commit=pin.get("commit"),
        samples=samples.read(run, trained) if run.samples.count else None,
    )


def _text(path: Path) -> str:
    """The text of a file, "" where there is none."""
    try:
        return files.read_text(path)
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return ""
