"""The checkpoints of a run's attempts: which one to go on from, which are superseded, and which is a result already.

A checkpoint counts when its trainer_state.json, which transformers writes last (after DeepSpeed's shards of all ranks),
is there and agrees with the folder's name. Only attempts with the same training configuration are looked at.
ADR 0013 says why.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files

ATTEMPT_FILE = "attempt.json"
STATE_FILE = "trainer_state.json"
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")

# What a checkpoint holds for going on, beside the folders of DeepSpeed's shards. The rest is the trained result.
_ONLY_FOR_RESUMING = ("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "latest", "zero_to_fp32.py")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: `step` optimizer steps of `max_steps` are done."""

    path: Path
    step: int
    max_steps: int
    attempt: int
    ended_early: bool = False

    @property
    def finished(self) -> bool:
        """All steps are done, or early stopping has ended them. Resuming from here would train on."""
        return self.step >= self.max_steps or self.ended_early


def newest_complete(train_directory: Path, config_digest: str) -> Checkpoint | None:
    """The complete checkpoint with most steps over all attempts with this configuration; ties go to the later one."""
    found = [
        checkpoint
        for directory, attempt in _attempts(train_directory)
        if attempt.get("configDigest") == config_digest
        for checkpoint in _complete(directory)
    ]
    return max(found, key=lambda checkpoint: (checkpoint.step, checkpoint.attempt), default=None)


def holds_others(train_directory: Path, config_digest: str, *, owner_uid: str) -> bool:
    """Whether another job with another configuration has left a checkpoint that a training could go on from.

    Within one job attempts have numbers, and so directories, of their own.
    """
    return any(
        _complete(directory)
        for directory, attempt in _attempts(train_directory)
        if attempt.get("configDigest") != config_digest and attempt.get("ownerUid") != owner_uid
    )


def remove_superseded(output: Path) -> list[Path]:
    """Delete the checkpoints of the other attempts, once the attempt in `output` holds a complete one of its own.

    The best one by evaluation stays, wherever it is. Only attempts with the same configuration: others may be wanted
    again. Returns what was deleted.
    """
    digest = (files.read_json_object(output / ATTEMPT_FILE) or {}).get("configDigest")
    if digest is None or not _complete(output):
        return []
    newest = max(_complete(output), key=lambda checkpoint: checkpoint.step)
    best = best_of(output.parent, read_state(newest.path) or {})
    superseded = [
        folder
        for directory, attempt in _attempts(output.parent)
        if attempt.get("configDigest") == digest and directory != output
        for folder in directory.iterdir()
        if _CHECKPOINT.match(folder.name) and folder != best
    ]
    for folder in superseded:
        (folder / STATE_FILE).unlink(missing_ok=True)  # first: half a checkpoint must not count
        shutil.rmtree(folder, ignore_errors=True)
    return superseded


def best_of(train_directory: Path, state: dict[str, Any]) -> Path | None:
    """The complete checkpoint with the best evaluation, by the state of a later one; None where nothing says so.

    It may be of an earlier attempt: states name it by a path, of which only the end is the same in every pod.
    """
    named = Path(str(state.get("best_model_checkpoint")))
    path = train_directory / named.parent.name / named.name
    return path if named.parent.name.isdigit() and _read(path, int(named.parent.name)) is not None else None


def evaluations_without_progress(callbacks: Any) -> int:
    """How many evaluations in a row early stopping has counted, by a state's stateful_callbacks."""
    kept = callbacks.get("EarlyStopping") if isinstance(callbacks, dict) else None
    count = kept.get("attributes", {}).get("early_stopping_patience_counter") if isinstance(kept, dict) else None
    return count if isinstance(count, int) else 0


def ended_early(state: dict[str, Any]) -> bool:
    """Whether early stopping had ended the training when this state was saved."""
    callbacks = state.get("stateful_callbacks")
    kept = callbacks.get("EarlyStopping") if isinstance(callbacks, dict) else None
    patience = kept.get("args", {}).get("early_stopping_patience") if isinstance(kept, dict) else None
    return isinstance(patience, int) and evaluations_without_progress(callbacks) >= patience


def publish(checkpoint: Path, output: Path) -> Path:
    """Make an attempt's directory hold the trained result that a checkpoint holds; returns that directory.

    What an attempt that died was writing there is replaced, or the last weights by the best. May be repeated.
    """
    results = [
        path
        for path in checkpoint.iterdir()
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in _ONLY_FOR_RESUMING)
    ]
    for path in sorted(results, key=lambda path: path.name == STATE_FILE):
        files.link(path, output / path.name)
    return output


def read_state(directory: Path) -> dict[str, Any] | None:
    """trainer_state.json of a checkpoint or an output directory, None when missing or cut off."""
    return files.read_json_object(directory / STATE_FILE)


def _attempts(train_directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The attempts' directories, each with what its attempt.json says."""
    if not train_directory.is_dir():
        return []
    return [
        (path, files.read_json_object(path / ATTEMPT_FILE) or {})
        for path in train_directory.iterdir()
        if path.name.isdigit() and path.is_dir()
    ]


def _complete(attempt: Path) -> list[Checkpoint]:
    found = (_read(folder, int(attempt.name)) for folder in attempt.iterdir())
    return [checkpoint for checkpoint in found if checkpoint is not None]


def _read(folder: Path, attempt: int) -> Checkpoint | None:
    match = _CHECKPOINT.match(folder.name)
    state = read_state(folder) if match else None
    if match is None or state is None:
        return None
    step, max_steps = state.get("global_step"), state.get("max_steps")
    if not isinstance(step, int) or not isinstance(max_steps, int) or step != int(match.group(1)):
        return None
    return Checkpoint(folder, step, max_steps, attempt, ended_early(state))
