"""What a checkpoint consists of: a list of its files, written when all of it is on the disk, compared before use.

transformers writes a checkpoint's files one by one, on all ranks at once. A machine that dies, or a volume that loses
what it had not confirmed, leaves one that looks whole. So the list is written last, by global rank 0, after every node
has synced its files. It has names, sizes, and of each file a digest of its two ends: reading all of a checkpoint would
take as long as loading it, and what was cut, wiped, exchanged or restored from elsewhere differs there.
ADR 0120 and ADR 0140 say why.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from qwensft_trainer.base import files

T = TypeVar("T")

MANIFEST = "qwensft-checkpoint.json"
UNUSABLE = "qwensft-unusable.json"
UNLOADABLE = "qwensft-unloadable.json"  # it did not load, and that is not its own fault: see unloadable.py
OURS = (MANIFEST, UNUSABLE, UNLOADABLE)
_END_BYTES = 64 << 10
_AT_A_TIME = 16  # files whose ends are read, by threads that mostly wait for the volume


def sync_all(folder: Path) -> None:
    """Have everything below `folder` that this node has written on the disk. Raises OSError."""
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            files.sync(Path(directory, name))
        files.sync(Path(directory))
    files.sync(folder.parent)


def seal(folder: Path) -> None:
    """Write the list of what is in `folder` (sizes in bytes): from now on it is a complete checkpoint."""
    sizes = {name: found.st_size for name, found in sorted(_entries(folder)) if name not in OURS}
    files.write_json(folder / MANIFEST, {"files": sizes, "ends": _ends(folder, sizes)})


def is_sealed(folder: Path) -> bool:
    """Whether the list was written. Raises OSError for a volume in trouble."""
    return files.read_json_object(folder / MANIFEST) is not None


def damage(folder: Path) -> str | None:
    """What makes a checkpoint unusable, or None. One without a list (of an earlier version) is only looked through.

    Raises OSError for a volume in trouble: what cannot be read now may be whole.
    """
    if (mark := files.read_json_object(folder / UNUSABLE)) is not None:
        return str(mark.get("why"))
    if (manifest := files.read_json_object(folder / MANIFEST)) is None:
        manifest = {"files": {}}
    sizes, ends = manifest.get("files"), manifest.get("ends", {})  # lists of earlier versions have no ends
    if not _is_list(sizes, int) or not _is_list(ends, str):
        return f"{MANIFEST} is not what was written"
    found = dict(_entries(folder))
    for name, entry in found.items():
        if not stat.S_ISREG(entry.st_mode):  # a link leads elsewhere, a pipe would be waited for
            return f"{name} is no file" + (" but a symbolic link" if stat.S_ISLNK(entry.st_mode) else "")
    for name, size in sizes.items():
        if name not in found:
            return f"{name} is missing"
        if found[name].st_size != size:
            return f"{name} has {found[name].st_size} of {size} bytes"
    read = _ends(folder, {name: sizes[name] for name in ends if name in sizes})
    return next((f"{name} does not hold what was written" for name in read if read[name] != ends[name]), None)


def size(folder: Path) -> int:
    """Bytes of all files of a complete checkpoint; 0 for one without a list (of an earlier version)."""
    sizes = (files.read_json_object(folder / MANIFEST) or {}).get("files")
    return sum(sizes.values()) if _is_list(sizes, int) else 0


def mark(folder: Path, why: str, **more: str) -> None:
    """Say that no later attempt shall try this checkpoint. Nothing else of it is changed."""
    files.write_json(folder / UNUSABLE, {"why": why, **more})


def _is_list(value: Any, kind: type[T]) -> TypeGuard[dict[str, T]]:
    return isinstance(value, dict) and all(isinstance(one, kind) for one in value.values())


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `folder` but directories, as it is: links are not followed."""
    for directory, directories, names in os.walk(folder, onerror=_raise):
        for name in (*directories, *names):
            path = Path(directory, name)
            with suppress(FileNotFoundError):  # deleted since
                found = path.lstat()
                if not stat.S_ISDIR(found.st_mode):
                    yield str(path.relative_to(folder)), found


def _ends(folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """A digest of the first and last bytes of each file."""
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        return dict(zip(sizes, threads.map(lambda name: _end_digest(folder / name, sizes[name]), sizes), strict=True))


def _end_digest(path: Path, size: int) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256(stream.read(_END_BYTES))
        stream.seek(max(0, size - _END_BYTES))
        digest.update(stream.read(_END_BYTES))
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error
