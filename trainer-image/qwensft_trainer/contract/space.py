"""Room on a volume: asked for before much is written, and told with numbers and the fix when there is none.

Retryable: a volume can be expanded while the job waits, and others may give room back. ADR 0145 says when it is asked.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from qwensft_trainer.contract.errors import StageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FIX = (
    "expand its PersistentVolumeClaim (spec.resources.requests.storage{enough}; of the run's own volume it is the one "
    "that spec.storage.volume names), or remove old runs or models from it."
)
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def require(directory: Path, needed: int, what: str, also: str = "") -> None:
    """Check that `needed` bytes fit below `directory`; raises StageError DiskFull.

    `what` is "the model needs", `also` a sentence on what else would give room. A file system that tells no size, as
    some of FUSE do, is not judged.
    """
    usage = shutil.disk_usage(directory)
    free = usage.free
    if usage.total > 0 and free < needed:
        raise StageError(
            "DiskFull",
            f"{directory} has {size(free)} free, but {what} {size(needed)}: "
            + _FIX.format(enough=f", {size(needed - free)} more")
            + also,
        )


def disk_full(error: OSError, volume: Path) -> StageError:
    """ENOSPC and EDQUOT, on `volume` if the error names no file. A quota may leave less than what is told as free."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else volume
    writing = "" if where == volume else f" while writing {where}"
    return StageError("DiskFull", f"No space left{writing} ({error.strerror}; {room(where)}): {_FIX.format(enough='')}")


def room(path: Path) -> str:
    """How much of the volume that a path is on is free, in words."""
    try:
        usage = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists()))
    except OSError:
        return "how much is free cannot be told"
    return f"{size(usage.free)} of {size(usage.total)} are free"


def is_full(path: Path) -> bool:
    """Whether a hundredth or less of the volume that a path is on is free."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return False
    return usage.total > 0 and usage.free <= usage.total // 100


def size(number: int) -> str:
    """Bytes for people: "1.5 GiB"."""
    unit, name = next(((unit, name) for unit, name in _UNITS if number >= unit), (1, "bytes"))
    return f"{number} bytes" if unit == 1 else f"{number / unit:.1f} {name}"
