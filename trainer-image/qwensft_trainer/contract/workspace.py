"""The run directory on the volume and who owns it.

A marker file carries the owner's UID, so a job that was deleted and created again under the same name neither resumes
from nor overwrites another run's files unless it was told to (onExisting).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import PermanentError

MARKER = ".qwensft-owner.json"

# Everything a run writes. Overwrite removes these names only: the directory may hold files of other people.
_OWN_NAMES = (
    "data",
    "model",
    ".model.partial",
    ".tokenize",
    "train",
    "merged",
    "prepare.json",
    "train.json",
    "merge.json",
    "model.json",
    MARKER,
)
_NOT_CONTENT = {"lost+found"}


def claim(run: Run) -> None:
    """Make the run directory ours, following onExisting. Raises PermanentError OutputExists when it is not to be."""
    directory = run.run_directory
    directory.mkdir(parents=True, exist_ok=True)
    if _owner_uid(directory) == run.owner.uid:
        return
    entries = [path.name for path in directory.iterdir() if path.name not in _NOT_CONTENT]
    if entries:
        _take_over(run)
    files.write_json(directory / MARKER, run.owner.model_dump(mode="json"))


def require_ownership(run: Run) -> None:
    """Check that prepare has claimed the directory for this very run. Raises PermanentError otherwise."""
    uid = _owner_uid(run.run_directory)
    if uid is None:
        raise PermanentError(
            "PreparationMissing",
            f"{run.run_directory} holds no {MARKER}: the volume is not the one that was prepared, or it was emptied. "
            "Create the job again to prepare it anew.",
        )
    if uid != run.owner.uid:
        raise _output_exists(run)


def _take_over(run: Run) -> None:
    if run.on_existing == "Fail":
        raise _output_exists(run)
    if run.on_existing == "Overwrite":
        for name in _OWN_NAMES:
            _remove(run.run_directory / name)
        log(f"removed the previous run's files from {run.run_directory} (storage.onExisting: Overwrite)")
    else:
        log(f"continuing with what {run.run_directory} holds (storage.onExisting: Resume)")


def _output_exists(run: Run) -> PermanentError:
    marker = files.read_json_object(run.run_directory / MARKER) or {}
    owner = (
        f"belongs to {marker.get('namespace')}/{marker.get('name')} (UID {marker['uid']})"
        if marker.get("uid")
        else "is not empty and carries no owner marker"
    )
    return PermanentError(
        "OutputExists",
        f"{run.run_directory} {owner}, not to this job (UID {run.owner.uid}). Set spec.storage.path to a new "
        "directory, or spec.storage.onExisting to Resume (go on from its checkpoints) or Overwrite (delete its files).",
    )


def _owner_uid(directory: Path) -> str | None:
    marker = files.read_json_object(directory / MARKER)
    uid = marker.get("uid") if marker else None
    return uid if isinstance(uid, str) else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
