"""What a checkpoint consists of: a list with names and sizes, written when all of it is on the disk, read before use.

transformers writes a checkpoint's files one by one, on all ranks at once. A machine that dies, or a volume that loses
what it had not confirmed, leaves one that looks whole. So the list is written last, by global rank 0, after every node
has synced its files.
ADR 0120 says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from qwensft_trainer.base import files

MANIFEST = "qwensft-checkpoint.json"
UNUSABLE = "qwensft-unusable.json"


def sync_all(folder: Path) -> None:
    """Have everything below `folder` that this node has written on the disk. Raises OSError."""
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            files.sync(Path(directory, name))
        files.sync(Path(directory))
    files.sync(folder.parent)


def seal(folder: Path) -> None:
    """Write the list of what is in `folder` (sizes in bytes): from now on it is a complete checkpoint."""
    files.write_json(folder / MANIFEST, {"files": dict(sorted(_sizes(folder)))})


def is_sealed(folder: Path) -> bool:
    """Whether the list was written. Raises OSError for a volume in trouble."""
    return files.read_json_object(folder / MANIFEST) is not None


def damage(folder: Path) -> str | None:
    """What makes a checkpoint unusable, or None. One without a list (of an earlier version) may only be marked so.

    Raises OSError for a volume in trouble: what cannot be read now may be whole.
    """
    if (mark := files.read_json_object(folder / UNUSABLE)) is not None:
        return str(mark.get("why"))
    listed = (files.read_json_object(folder / MANIFEST) or {}).get("files", {})
    for name, size in listed.items():
        try:
            found = (folder / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} of {size} bytes"
    return None


def mark(folder: Path, why: str) -> None:
    """Say that no later attempt shall try this checkpoint. Nothing else of it is changed."""
    files.write_json(folder / UNUSABLE, {"why": why})


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(directory, name)
            yield str(path.relative_to(folder)), path.stat().st_size


def _raise(error: OSError) -> None:
    raise error
