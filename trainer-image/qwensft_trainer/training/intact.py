"""Whether the files of a checkpoint are whole by their own formats: all of them is read, so only when loading failed.

torch's files are zip archives with a CRC of each member, safetensors begin with a table of contents, the rest is JSON.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path

_ARCHIVES = frozenset({".pt", ".pth", ".bin"})
_OLD_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # as torch's files began before they were archives
_LARGEST_TABLE = 100_000_000  # as safetensors itself allows


def garbled(folder: Path) -> str | None:
    """The first file below `folder` that is not whole; None when there is none. Raises OSError of the volume."""
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in sorted(names):
            path = Path(directory, name)
            if (why := _damage(path)) is not None:
                return f"{path.relative_to(folder)} {why}"
    return None


def _damage(path: Path) -> str | None:
    if path.suffix in _ARCHIVES:
        return _of_archive(path)
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    if path.suffix == ".json":
        return _of_json(path)
    return None


def _of_archive(path: Path) -> str | None:
    with path.open("rb") as stream:
        if stream.read(len(_OLD_PICKLE)) == _OLD_PICKLE:
            return None  # nothing in it tells whether it is whole
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # of a damaged archive zipfile makes many
        return f"is damaged ({error})"
    return None if member is None else f"is damaged (in {member})"


def _of_safetensors(path: Path) -> str | None:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _LARGEST_TABLE):
                raise ValueError(length)
            table = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, LookupError, struct.error, RecursionError):
            return "is damaged (its table of contents)"
    return None if size == 8 + length + end else f"has {size} of {8 + length + end} bytes"


def _of_json(path: Path) -> str | None:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "is damaged"
    return None


def _raise(error: OSError) -> None:
    raise error
