"""The checkpoints of a run's attempts: which one to go on from, which are superseded, and which is a result already.

A checkpoint is complete when its manifest was written (training/manifests.py); in the directories of earlier versions,
which wrote none, when its trainer_state.json is there and agrees with the folder's name. Only attempts at the same
experiment are looked at. A pod that begins an attempt makes a directory of its own for it, so that two lives of one
attempt, as a queue makes them, never write beside each other.
ADR 0013, ADR 0120 and ADR 0121 say why.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.training import manifests

ATTEMPT_FILE = "attempt.json"
NOT_OUTPUT = (ATTEMPT_FILE, *manifests.OURS)  # what stands beside a result and is no part of it
STATE_FILE = "trainer_state.json"
SEALED = "sealed"  # in attempt.json: all complete checkpoints of this directory have a manifest
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
_ATTEMPT = re.compile(r"^(\d+)(?:\.(\d+))?$")

# What a checkpoint holds for going on, beside the folders of DeepSpeed's shards. The rest is the trained result.
_ONLY_FOR_RESUMING = (
    *("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "latest", "zero_to_fp32.py"),
    *manifests.OURS,
)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: `step` optimizer steps of `max_steps` are done."""

    path: Path
    step: int
    max_steps: int
    ended_early: bool = False

    @property
    def finished(self) -> bool:
        """All steps are done, or early stopping has ended them. Resuming from here would train on."""
        return self.step >= self.max_steps or self.ended_early

    @property
    def name(self) -> str:
        """With its attempt, as people know it."""
        return f"{self.path.parent.name}/{self.path.name}"


def begin(train_directory: Path, attempt: int) -> Path:
    """Make a new directory for an attempt and return it: `3`, or `3.2` when another pod has begun it before."""
    train_directory.mkdir(parents=True, exist_ok=True)
    for life in count(1):
        directory = train_directory / (f"{attempt}" if life == 1 else f"{attempt}.{life}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class PassedOver:
    """A checkpoint that would have come before the one that is used. `damaged`: it had been complete."""

    path: Path
    why: str
    damaged: bool


def newest(
    train_directory: Path, experiment: Experiment, *, without: Path | None = None
) -> tuple[Checkpoint | None, list[PassedOver]]:
    """The usable checkpoint with most steps over all attempts at the experiment; ties go to the later attempt.

    Also those that would have come before it; nobody looks at `without`. Raises OSError for a volume in trouble.
    """
    passed: list[PassedOver] = []
    found = [
        (step, _order(directory), folder, _is_sealing(attempt))
        for directory, attempt in _attempts(train_directory)
        if experiment.owns(attempt)
        for folder, step in _folders(directory)
        if folder != without
    ]
    for step, _, folder, sealed in sorted(found, reverse=True):
        checkpoint = _read(folder, step, sealed=sealed)
        if isinstance(checkpoint, str):
            passed.append(PassedOver(folder, checkpoint, damaged=False))
        elif (why := manifests.damage(folder)) is not None:
            passed.append(PassedOver(folder, why, damaged=True))
        else:
            return checkpoint, passed
    return None, passed


def folders_of(train_directory: Path, experiment: Experiment) -> list[Path]:
    """The folders of all checkpoints of an experiment, complete or not."""
    return [
        folder
        for directory, attempt in _attempts(train_directory)
        if experiment.owns(attempt)
        for folder, _ in _folders(directory)
    ]


def attempts_at(train_directory: Path, experiment: Experiment) -> list[tuple[str, dict[str, Any]]]:
    """Names and records (attempt.json) of the attempts at an experiment, in their order."""
    attempts = sorted(_attempts(train_directory), key=lambda attempt: _order(attempt[0]))
    return [(directory.name, record) for directory, record in attempts if experiment.owns(record)]


def holds_others(train_directory: Path, experiment: Experiment) -> bool:
    """Whether a job has left a checkpoint of another experiment that a training could go on from.

    Within one job attempts have numbers, and so directories, of their own.
    """
    return any(
        _complete(directory)
        for directory, attempt in _attempts(train_directory)
        if not experiment.owns(attempt) and attempt.get("ownerUid") != experiment.owner_uid
    )


def remove_superseded(output: Path, limit: int | None) -> list[Path]:
    """Delete what the newest complete checkpoint in `output` supersedes; returns what was deleted.

    Of the attempt in `output` the `limit` newest stay (None: all); of others at the same experiment those that came
    further. The best one by evaluation stays, wherever it is.
    """
    own = sorted(_complete(output), key=lambda checkpoint: checkpoint.step)
    attempt = files.read_json_object(output / ATTEMPT_FILE)
    if not own or attempt is None:
        return []
    experiment, last = Experiment.of_attempt(attempt), own[-1]
    best = best_of(output.parent, read_state(last.path) or {})
    superseded = [
        folder
        for directory, other in _attempts(output.parent)
        if experiment.owns(other) and directory != output
        for folder, step in _folders(directory)
        if step <= last.step and folder != best
    ]
    if limit is not None:
        protected = {last.path, best} & {checkpoint.path for checkpoint in own}
        others = [checkpoint.path for checkpoint in own if checkpoint.path not in protected]
        superseded += others[: max(0, len(own) - max(limit, len(protected)))]
    for folder in superseded:
        with suppress(IsADirectoryError):
            (folder / STATE_FILE).unlink(missing_ok=True)  # first: half a checkpoint must not count
        shutil.rmtree(folder, ignore_errors=True)
    return superseded


def remove_incomplete(output: Path) -> list[Path]:
    """Delete what saves that failed have left in an attempt's directory; returns what was deleted.

    Only while nobody can complete them any more: global rank 0, who does, has ended on this node.
    """
    incomplete = [folder for folder, step in _folders(output) if isinstance(_read(folder, step, sealed=True), str)]
    for folder in incomplete:
        (folder / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return incomplete


def best_of(train_directory: Path, state: dict[str, Any]) -> Path | None:
    """The complete checkpoint with the best evaluation, by the state of a later one; None where nothing says so.

    It may be of an earlier attempt: states name it by a path, of which only the end is the same in every pod.
    """
    named = Path(str(state.get("best_model_checkpoint")))
    if not _ATTEMPT.match(named.parent.name):
        return None
    path = train_directory / named.parent.name / named.name
    complete = {
        checkpoint.path
        for directory, _ in _attempts(train_directory)
        if directory == path.parent
        for checkpoint in _complete(directory)
    }
    return path if path in complete and manifests.damage(path) is None else None


def evaluations_without_progress(callbacks: Any) -> int:
    """How many evaluations in a row early stopping has counted, by a state's stateful_callbacks."""
    count = _kept(callbacks, "attributes", "early_stopping_patience_counter")
    return count if isinstance(count, int) else 0


def ended_early(state: dict[str, Any]) -> bool:
    """Whether early stopping had ended the training when this state was saved."""
    callbacks = state.get("stateful_callbacks")
    patience = _kept(callbacks, "args", "early_stopping_patience")
    return isinstance(patience, int) and evaluations_without_progress(callbacks) >= patience


def _kept(callbacks: Any, *keys: str) -> Any:
    """What a state holds of early stopping; None where it is not as transformers writes it."""
    value = callbacks
    for key in ("EarlyStopping", *keys):
        value = value.get(key) if isinstance(value, dict) else None
    return value


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
    """The attempts' directories, each with what its attempt.json says. No attempt makes links to directories."""
    if not train_directory.is_dir():
        return []
    return [
        (path, files.read_json_object(path / ATTEMPT_FILE) or {})
        for path in train_directory.iterdir()
        if _ATTEMPT.match(path.name) and path.is_dir() and not path.is_symlink()
    ]


def _order(directory: Path) -> tuple[int, int]:
    """Attempts by their number, and within one by which life of it."""
    match = _ATTEMPT.match(directory.name)
    return (int(match[1]), int(match[2] or 1)) if match else (0, 0)


def _folders(attempt: Path) -> Iterator[tuple[Path, int]]:
    """The folders of an attempt's checkpoints with their steps, complete or not."""
    for folder in attempt.iterdir():
        if (match := _CHECKPOINT.match(folder.name)) and folder.is_dir() and not folder.is_symlink():
            yield folder, int(match[1])


def _complete(attempt: Path) -> list[Checkpoint]:
    sealed = _is_sealing(files.read_json_object(attempt / ATTEMPT_FILE) or {})
    found = (_read(folder, step, sealed=sealed) for folder, step in _folders(attempt))
    return [checkpoint for checkpoint in found if isinstance(checkpoint, Checkpoint)]


def _is_sealing(attempt: Mapping[str, Any]) -> bool:
    return bool(attempt.get(SEALED))


def _read(folder: Path, step: int, *, sealed: bool) -> Checkpoint | str:
    """The complete checkpoint in a folder, or what makes it none."""
    state = read_state(folder)
    if state is None:
        return f"{STATE_FILE} is missing or cut off"
    if state.get("global_step") != step or not isinstance(state.get("max_steps"), int) or not _is_history(state):
        return f"{STATE_FILE} is not of this checkpoint"
    if sealed and not manifests.is_sealed(folder):
        return "saving it was never completed"
    return Checkpoint(folder, step, state["max_steps"], ended_early(state))


def _is_history(state: Mapping[str, Any]) -> bool:
    history = state.get("log_history", [])
    return isinstance(history, list) and all(isinstance(entry, dict) for entry in history)
