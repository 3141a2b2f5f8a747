"""What stands beside the weights of a merged model, and the manifest that tells a model of ours from other files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.contract.outputs import MANIFEST
from qwensft_trainer.merging.streaming import JOURNAL


def write_manifest(merged: Path, known: Mapping[str, dict[str, Any]]) -> None:
    """List every file with size and SHA-256. Written last, it is the sign that a merge has made the others.

    `known` are entries of files that were hashed while they were written.
    """
    beside = files.manifest_of(merged, exclude=(*known, JOURNAL))
    (merged / JOURNAL).unlink(missing_ok=True)
    files.write_json(merged / MANIFEST, {**beside, **known})


def output_of(directory: Path, workspace: Path) -> dict[str, Any] | None:
    """What the report says of a published model: path on the volume, bytes, digest; None when there is none."""
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return None
    return {
        "path": str(directory.relative_to(workspace)),
        "sizeBytes": sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        "digest": f"sha256:{files.sha256_of_file(manifest)}",
    }


def check_target(target: Path) -> None:
    """Replacing a directory deletes what was there: it must be one of ours, or nothing."""
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise PermanentError(
            "OutputExists",
            f"{target} holds files that no merge has written (there is no {MANIFEST}): set spec.merge.path to a new "
            "directory.",
        )
