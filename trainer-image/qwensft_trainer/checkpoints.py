"""Which checkpoint a new attempt goes on from, and whether an earlier attempt has finished without saying so.

A checkpoint counts when its trainer_state.json, which transformers writes last, is there and agrees with the folder's
name. Only attempts with the same training configuration are looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwensft_trainer import files

ATTEMPT_FILE = "attempt.json"
STATE_FILE = "trainer_state.json"
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: `step` optimizer steps of `max_steps` are done."""

    path: Path
    step: int
    max_steps: int
    attempt: int

    @property
    def finished(self) -> bool:
        """All steps are done. Resuming from here would train one step too many."""
        return self.step >= self.max_steps


def newest_complete(train_directory: Path, config_digest: str) -> Checkpoint | None:
    """The complete checkpoint with most steps over all attempts with this configuration; ties go to the later one."""
    found = [
        checkpoint
        for directory in _attempts(train_directory)
        if (files.read_json_object(directory / ATTEMPT_FILE) or {}).get("configDigest") == config_digest
        for folder in directory.iterdir()
        if (checkpoint := _read(folder, int(directory.name))) is not None
    ]
    return max(found, key=lambda checkpoint: (checkpoint.step, checkpoint.attempt), default=None)


def read_state(directory: Path) -> dict[str, Any] | None:
    """trainer_state.json of a checkpoint or an output directory, None when missing or cut off."""
    return files.read_json_object(directory / STATE_FILE)


def _attempts(train_directory: Path) -> list[Path]:
    if not train_directory.is_dir():
        return []
    return [path for path in train_directory.iterdir() if path.name.isdigit() and path.is_dir()]


def _read(folder: Path, attempt: int) -> Checkpoint | None:
    match = _CHECKPOINT.match(folder.name)
    state = read_state(folder) if match else None
    if match is None or state is None:
        return None
    step, max_steps = state.get("global_step"), state.get("max_steps")
    if not isinstance(step, int) or not isinstance(max_steps, int) or step != int(match.group(1)):
        return None
    return Checkpoint(folder, step, max_steps, attempt)
