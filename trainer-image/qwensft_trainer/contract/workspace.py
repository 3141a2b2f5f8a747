"""The run directory on the volume and who owns it.

A marker file carries the owner's UID, so a job that was deleted and created again under the same name neither resumes
from nor overwrites another run's files unless it was told to (onExisting). Of several jobs that want one directory at
the same moment one gets it.
ADR 0123 says why.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.lease import Lease
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import places
from qwensft_trainer.contract.config import TRACKER_DIRECTORIES, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_config

MARKER = ".qwensft-owner.json"
# For a person; nothing needs them, and so nothing in their place stands in anybody's way.
REPORT = "report.html"
SAMPLES = "samples.json"
_OF_RUNS = ".qwensft-"  # how names begin that no one else has
_CLAIM_LEASE = ".qwensft-claim"  # the lease under which a directory changes hands

_LINKED = "model"
_MERGED = "merged"  # unless spec.merge.path names another
_DIRECTORIES = ("data", _LINKED, ".model.partial", ".tokenize", "train", _MERGED, ".merged.partial", ".merged.old")
_FILES = ("prepare.json", "train.json", "merge.json", "model.json", "preview.json", "preview.txt")
# What every run writes, beside the directories of its trackers. Overwrite removes no others: the directory may hold
# files of other people.
_OWN_NAMES = (*_DIRECTORIES, *_FILES, REPORT, SAMPLES)
# What a merged model cannot be called: it would replace them, or they would stand in its way after the training.
_TAKEN = tuple(name for name in _OWN_NAMES if name != _MERGED)
_NOT_CONTENT = {"lost+found"}


def claim(run: Run) -> None:
    """Make the run directory ours, following onExisting. Raises PermanentError OutputExists when it is not to be."""
    directory = run.run_directory
    directory.mkdir(parents=True, exist_ok=True)
    with Lease(directory / _CLAIM_LEASE, f"{run.owner.namespace}/{run.owner.name}") as lease:
        if lease.acquire(lambda: owner_uid(directory) == run.owner.uid):
            _claim(run, _marker(directory))
    _require_kinds(run)


def _claim(run: Run, before: dict[str, Any]) -> None:
    """`before` is what the marker has said so far.

    It stays in its place until ours replaces it: who dies in between is found to have been the next owner, or not yet.
    Its `found` are names of ours that stand for what no run made, its `trackers` the directories that runs' trackers
    made.
    """
    directory, found = run.run_directory, before.get("found", [])
    reported = [name for name in TRACKER_DIRECTORIES if name in before.get("trackers", [])]
    if not before:
        names = [path.name for path in directory.iterdir() if path.name not in _NOT_CONTENT]
        found = sorted(name for name in names if name in _OWN_NAMES)
        if any(not name.startswith(f"{_CLAIM_LEASE}.") and not name.endswith(".tmp") for name in names):
            _require_resume(run)
    else:
        _take_over(run, spared=found, reported=reported)
        if run.on_existing == "Overwrite":
            reported = []
    mine = [name for name in run.tracker_directories if name not in (*found, *reported)]
    told = {
        "found": [*found, *(name for name in mine if os.path.lexists(directory / name))],
        "trackers": [*reported, *mine],
    }
    marker = run.owner.model_dump(mode="json") | {key: names for key, names in told.items() if names}
    files.write_json(directory / MARKER, marker)


def require_within(run: Run, volume: Path) -> None:
    """Check that the run directory can be one, and lies on its volume with all in it. Raises InvalidConfig.

    Others may write to a claim that jobs share: a link of theirs must not lead this job's reading and writing, and what
    Overwrite deletes, to another volume of the pod. The model may be a link into the cache, which is judged there.
    """
    names = (MARKER, *_DIRECTORIES, *_FILES, *run.tracker_directories)
    of_the_run = [run.run_directory, *(run.run_directory / name for name in names if name != _LINKED)]
    if run.merge is not None:
        of_the_run.append(run.merge.directory)
    if strange := next((place for place in of_the_run if files.leads_out(place, volume)), None):
        raise invalid_config(
            f"{strange} leads out of the volume at {volume} by a symbolic link: remove the link, or set "
            "spec.storage.path to another directory in a new QwenSFTJob."
        )
    places.require_names(run.run_directory, volume, "spec.storage.path")
    places.require_directory(run.run_directory, volume)
    places.require_kinds([], [run.run_directory / MARKER])


def _require_kinds(run: Run) -> None:
    """Check that what a run makes is of that kind where it is there already. Raises PermanentError InvalidConfig."""
    directory = run.run_directory
    names = (*_DIRECTORIES, *run.tracker_directories)
    directories = [directory / name for name in names if name != _LINKED or not (directory / name).is_symlink()]
    if run.merge is not None:
        merged = run.merge.directory
        _require_free(merged, run)
        beside = (merged.with_name(f".{merged.name}.{ending}") for ending in ("partial", "old"))
        places.require_names(merged, directory, "spec.merge.path", more=len("..partial"))
        places.require_directory(merged, directory)
        directories += [merged, *beside]
    places.require_kinds(directories, [directory / name for name in _FILES])


def _require_free(merged: Path, run: Run) -> None:
    name = next(iter(merged.relative_to(run.run_directory).parts), "")
    if name in ("", *_TAKEN, *run.tracker_directories) or name.startswith(_OF_RUNS):
        raise invalid_config(f"spec.merge.path {merged} is where the run keeps other files: choose another directory.")


def require_ownership(run: Run) -> None:
    """Check that prepare has claimed the directory for this very run. Raises PermanentError otherwise."""
    uid = owner_uid(run.run_directory)
    if uid is None:
        raise PermanentError(
            "PreparationMissing",
            f"{run.run_directory} holds no {MARKER}: the volume is not the one that was prepared, or it was emptied. "
            "Create the job again to prepare it anew.",
        )
    if uid != run.owner.uid:
        raise _output_exists(run)
    _require_kinds(run)


def _require_resume(run: Run) -> None:
    """Files that no run has made are nobody's to delete; a copy of a run without its marker may be gone on from."""
    if run.on_existing != "Resume":
        raise PermanentError(
            "OutputExists",
            f"{run.run_directory} is not empty and carries no owner marker, so no run has made what is in it. Set "
            "spec.storage.path to a new directory, or remove what is there yourself: spec.storage.onExisting Overwrite "
            "deletes only what runs made. If it is a copy of a run, set onExisting to Resume.",
        )
    log(f"continuing with what {run.run_directory} holds (storage.onExisting: Resume)")


def _take_over(run: Run, *, spared: list[str], reported: list[str]) -> None:
    if run.on_existing == "Fail":
        raise _output_exists(run)
    if run.on_existing == "Overwrite":
        for name in (*_OWN_NAMES, *reported):
            if name not in spared:
                files.remove(run.run_directory / name)
        log(f"removed the previous run's files from {run.run_directory} (storage.onExisting: Overwrite)")
    else:
        log(f"continuing with what {run.run_directory} holds (storage.onExisting: Resume)")


def _output_exists(run: Run) -> PermanentError:
    marker = _marker(run.run_directory)
    return PermanentError(
        "OutputExists",
        f"{run.run_directory} belongs to {marker.get('namespace')}/{marker.get('name')} (UID {marker.get('uid')}), not "
        f"to this job (UID {run.owner.uid}). Set spec.storage.path to a new directory, or spec.storage.onExisting to "
        "Resume (go on from its checkpoints, with the same rows and fields) or Overwrite (delete its files, a trained "
        "model among them). To train on what it has learnt with other rows, take a new directory and name its "
        "QwenSFTJob in spec.model.adapter.run or spec.model.source.run.",
    )


def _marker(directory: Path) -> dict[str, Any]:
    return files.read_json_object(directory / MARKER) or {}


def owner_uid(directory: Path) -> str | None:
    """The UID of the job to which a run's directory belongs; None where nothing tells. Raises OSError."""
    uid = _marker(directory).get("uid")
    return uid if isinstance(uid, str) else None
