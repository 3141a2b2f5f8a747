"""A volume that the pod's user may not use: no later attempt can get past that, so it ends the run with the fix."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from qwensft_trainer.contract.errors import PermanentError

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def access_denied(error: OSError, *, workspace: Path, scratch: Path) -> PermanentError | None:
    """The failure for an error that says that a file on a volume may not be written or read; None for any other.

    `workspace` is the root of the run's volume; `scratch` is the pod's own, and no volume. An EPERM says so only where
    nothing can be written beside the file: FUSE and NFS answer a single call (link, chmod, utime) with it, too.
    """
    if error.errno not in _DENIED or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    volume = _volume_of(path, workspace, scratch)
    if volume is None or (error.errno == errno.EPERM and not _refuses_files(Path(error.filename2 or path))):
        return None
    what = f"{path}: {error.strerror}."
    if error.errno == errno.EROFS:
        return PermanentError(
            "VolumeAccessDenied",
            f"{what} The volume at {volume} is read-only: use a claim whose volume can be written, without readOnly in "
            "its PersistentVolume and not ReadOnlyMany.",
        )
    groups = ", ".join(str(group) for group in sorted({os.getgid(), *os.getgroups()}))
    return PermanentError(
        "VolumeAccessDenied",
        f"{what} The pod runs as user {os.getuid()} in the groups {groups}, who may not do that on the volume at "
        f"{volume}. Give its directory to one of them (chown, chmod g+rwX), or set spec.worker.securityContext in a "
        "new QwenSFTJob: runAsUser or supplementalGroups of the owner, or fsGroup where the storage knows it (host "
        "directories and most NFS exports do not).",
    )


def _refuses_files(path: Path) -> bool:
    """Whether no file can be written where that path is, be it of a directory, a file, or of what does not exist."""
    try:
        with tempfile.TemporaryFile(dir=path if path.is_dir() else path.parent) as probe:
            probe.write(b"0")
            probe.flush()
    except OSError as error:
        return error.errno in _DENIED
    return False


def _volume_of(path: Path, workspace: Path, scratch: Path) -> Path | None:
    if path.is_relative_to(workspace):
        return workspace
    mount = next((place for place in (path, *path.parents) if place.is_mount()), Path("/"))
    return None if scratch.is_relative_to(mount) else mount
