"""What stands on a volume where a run needs something else: a file in a directory's place, a link to nothing, a pipe.

It is refused before work is done in vain, as far as names are known before; what an operation then meets is told at the
edge. ADR 0169 says why nothing of it is taken away by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_config

_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP})
_NOT_EMPTIED = frozenset({errno.ENOTEMPTY, errno.EBUSY})  # NFS says the one of a directory, the other of a file
_LONGEST_NAME = 255  # of file systems that do not tell
_KINDS = (
    *((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe")),
    *((stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device"), (stat.S_ISCHR, "a device")),
)
_FIX = "Remove it, or set spec.storage.path to another directory in a new QwenSFTJob."


def require_directory(path: Path, root: Path) -> None:
    """Check that `path` below `root` is a directory or can become one. Raises PermanentError InvalidConfig."""
    above = [place for place in reversed((path, *path.parents)) if place.is_relative_to(root)]
    for place in above:
        if (found := kind(place)) not in (None, "a directory"):
            raise _refused(place, found, "a directory")


def require_names(path: Path, root: Path, field: str, *, more: int = 0) -> None:
    """Check that the file system takes each name of a path, with `more` bytes at it. Raises InvalidConfig."""
    try:
        told = os.pathconf(root, "PC_NAME_MAX")
    except OSError:
        told = 0
    longest = told if told > 0 else _LONGEST_NAME
    for name in path.relative_to(root).parts:
        if (length := len(os.fsencode(name)) + more) > longest:
            raise invalid_config(
                f"{field}: {name:.40}... has {length - more} bytes, and the volume's file system takes names of "
                f"{longest - more} here: set a shorter one in a new QwenSFTJob."
            )


def require_kinds(directories: Iterable[Path], plain: Iterable[Path]) -> None:
    """Check that what is there already is a directory, or a plain file. Raises PermanentError InvalidConfig."""
    for wanted, places in (("a directory", directories), ("a file", plain)):
        for place in places:
            if (found := kind(place)) not in (None, wanted):
                raise _refused(place, found, wanted)


def kind(path: Path) -> str | None:
    """What a path leads to, in words; None where nothing is. Raises OSError for a volume in trouble."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return "a symbolic link that leads nowhere" if path.is_symlink() else None
    return next((name for is_it, name in _KINDS if is_it(mode)), "neither a file nor a directory")


def in_the_way(error: OSError, reason: str, volume: Path) -> StageError | None:
    """The failure for an error that says that something else stands at a path of the run's volume, else None.

    Retryable: it may be another pod's doing, which has ended by then.
    """
    name = error.filename2 or error.filename
    if error.errno not in _IN_THE_WAY | _NOT_EMPTIED or not isinstance(name, str | bytes):
        return None
    path = Path(os.fsdecode(name))
    if not path.is_relative_to(volume):
        return None
    try:
        if (told := _not_emptied(error, path)) is not None:
            return StageError(reason, told)
        if error.errno not in _IN_THE_WAY:
            return None
        blocking = next((place for place in (*reversed(path.parents), path) if _blocks(place, volume)), path)
        found = kind(blocking) or "not there any more"
    except OSError:  # the volume is in trouble besides
        return None
    return StageError(reason, f"{blocking} is {found} where something else is needed ({error.strerror}). {_FIX}")


def _not_emptied(error: OSError, path: Path) -> str | None:
    """Why something is left where all was to be deleted; None if the error tells of something else."""
    if error.errno not in _NOT_EMPTIED:
        return None
    if held := next((place for place in (path, *path.rglob("*")) if place.name.startswith(files.OF_NFS)), None):
        return (
            f"{held.parent} could not be emptied: {held.name} is a deleted file that a process on this node still has "
            f"open ({error.strerror}). It is tried again; if that repeats, end what reads this run's files, such as a "
            "pod of an earlier attempt."
        )
    if error.errno == errno.ENOTEMPTY and error.filename2 is None and kind(path) == "a directory":
        return (
            f"{path} could not be emptied: somebody has put files there meanwhile ({error.strerror}). It is tried "
            "again; if that repeats, end what writes there, such as another job with the same spec.storage.path."
        )
    return None


def _blocks(place: Path, volume: Path) -> bool:
    return place.is_relative_to(volume) and kind(place) not in (None, "a directory")


def _refused(place: Path, found: str | None, wanted: str) -> PermanentError:
    return invalid_config(f"{place} is {found}, where a run has {wanted}. {_FIX}")
