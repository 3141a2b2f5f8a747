"""What the reports say of a training's result: where it lies, how large it is, and by which digest it is known.

The digest reads every byte. Where a merge follows, it is left to that stage, which holds no accelerators; a training
that nothing follows has it made at once, on all CPUs.
ADR 0132 says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files

# SHA-256 and size of every file of a merged model. The digest in the status is this file's own SHA-256.
MANIFEST = "qwensft-manifest.json"


def describe(directory: Path, volume: Path, *, exclude: tuple[str, ...]) -> dict[str, Any]:
    """Path below the volume's root and bytes of the files directly inside of `directory`."""
    sizes = [path.stat().st_size for path in directory.iterdir() if path.is_file() and path.name not in exclude]
    return {"path": str(directory.relative_to(volume)), "sizeBytes": sum(sizes)}


def with_digest(output: Mapping[str, Any], volume: Path, *, exclude: tuple[str, ...]) -> dict[str, Any]:
    """The same with its digest, which is computed unless it is there."""
    if "digest" in output:
        return dict(output)
    return {**output, "digest": files.manifest_digest(files.manifest_of(volume / output["path"], exclude=exclude))}
