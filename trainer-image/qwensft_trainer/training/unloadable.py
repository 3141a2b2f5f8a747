"""What it means that a checkpoint did not load: it is damaged, or nothing is wrong with it and others fail alike.

A damaged file proves that it is the checkpoint's fault: the next older one is taken. Whole files prove nothing: then
the next older one is tried, too, but when that fails alike the cause is what loads them, and the run ends with all of
them as they were. Otherwise each attempt would give up one more, until the training began anew.
ADR 0138 says why.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from qwensft_trainer.base import files
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.training import checkpoints, intact, manifests

_NUMBER = re.compile(r"\d+")


def judge(folder: Path, why: str, error: StageError, *, attempt: str) -> StageError:
    """Mark the checkpoint in `folder` or not; returns what to end the attempt with that has tried it.

    `why` is the exception of one of its processes, `error` what would end it otherwise, `attempt` the name of its
    directory: all nodes of a gang may judge at once. Raises OSError for a volume in trouble.
    """
    name = _name(folder)
    train_directory = folder.parent.parent
    experiment = Experiment.of_attempt(files.read_json_object(folder.parent / checkpoints.ATTEMPT_FILE) or {})
    kind = _NUMBER.sub("#", why)  # numbers are of steps, attempts and ranks
    older = checkpoints.newest(train_directory, experiment, without=folder)[0]
    if older is not None:  # what stands if the grace period ends while all of the checkpoint is read
        manifests.mark(folder, f"it does not load ({why})", kind=kind, attempt=attempt)
    if (damage := intact.garbled(folder)) is not None:
        manifests.mark(folder, f"it does not load: {damage} ({why})")
        return _again(error, f"In {name} {damage}. The next attempt takes an older checkpoint than {name}.")
    alike = [
        other
        for other in checkpoints.folders_of(train_directory, experiment)
        if any(_failed_so(other / record, kind, attempt) for record in (manifests.UNUSABLE, manifests.UNLOADABLE))
    ]
    if alike:
        for other in (*alike, folder):
            _acquit(other)
        _remember(folder, why, kind, attempt)
        return _systematic(sorted({_name(other) for other in (*alike, folder)}), why)
    if older is None:
        _remember(folder, why, kind, attempt)
        return _again(
            error,
            f"{name} does not load, its files are whole, and there is no older checkpoint. The next attempt tries it "
            "once more; nothing is begun anew.",
        )
    return _again(error, f"The next attempt takes an older checkpoint than {name}.")


def _again(error: StageError, more: str) -> StageError:
    return StageError(error.reason, f"{error.message} {more}")


def _systematic(names: list[str], why: str) -> PermanentError:
    which = (
        f"{', '.join(names)} do not load, all with the same error, and their"
        if len(names) > 1
        else f"{names[0]} did not load in two attempts, with the same error, and its"
    )
    return PermanentError(
        "CheckpointsUnloadable",
        f"{which} files are whole: {why:.500}. So the checkpoints are not at fault, and stay as they were. Mostly the "
        "image has other versions of torch, transformers, peft or DeepSpeed than the one that saved them: in a new "
        "QwenSFTJob set spec.worker.image to that one, spec.storage.path to this run's directory and "
        "spec.storage.onExisting to Resume. If something else was the cause and is mended, raise spec.runPolicy.retry.",
    )


def _failed_so(record: Path, kind: str, attempt: str) -> bool:
    """Whether a checkpoint did not load for the same reason, in another attempt."""
    said = files.read_json_object(record) or {}
    return said.get("kind") == kind and said.get("attempt") != attempt


def _acquit(folder: Path) -> None:
    """Let later attempts use the checkpoint; what was said of it stays in mind, and for nodes that judge just now."""
    with suppress(FileNotFoundError):
        (folder / manifests.UNUSABLE).replace(folder / manifests.UNLOADABLE)


def _remember(folder: Path, why: str, kind: str, attempt: str) -> None:
    if not _failed_so(folder / manifests.UNLOADABLE, kind, attempt):
        files.write_json(folder / manifests.UNLOADABLE, {"why": why, "kind": kind, "attempt": attempt})


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
