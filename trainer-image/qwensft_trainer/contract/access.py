"""A volume that the pod's user may not use: told with the fix, and the end of a run that no later attempt can help.

ADR 0113 says when.
"""

from __future__ import annotations

import ast
import errno
import os
import re
import tempfile
from pathlib import Path

from qwensft_trainer.contract.errors import PermanentError, StageError

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# How exceptions tell of it whose text is all that is left: Python's own, safetensors' and PyTorch's.
_PATH = r"""('(?:[^'\\]|\\.)+'|"(?:[^"\\]|\\.)+")"""
_OF_PYTHON = re.compile(rf"\[Errno (\d+)\] [^:]+: {_PATH}(?: -> {_PATH})?")
_OF_RUST = re.compile(r'\(os error (\d+)\) at path "(.+)"')
_OF_TORCH = re.compile(r"File (.+) cannot be opened\.")


def denied_later(error: OSError, *, workspace: Path, scratch: Path) -> StageError | None:
    """The same for a stage after prepare, which has used the volumes: it is for good on the run's own volume alone."""
    failure = access_denied(error, workspace=workspace, scratch=scratch)
    if failure is None or Path(error.filename).is_relative_to(workspace):
        return failure
    return StageError(failure.reason, failure.message)


def error_told(kind: str, text: str) -> OSError | None:
    """The error of the system that an exception of another process tells of, by its type's name and text.

    What a library has made of it proves nothing: it comes as EPERM, which asks for a proof.
    """
    if kind in ("PermissionError", "OSError") and (found := _OF_PYTHON.fullmatch(text)):
        number, path, target = int(found[1]), _unquoted(found[2]), found[3] and _unquoted(found[3])
        return OSError(number, os.strerror(number), path, None, target)
    if kind == "SafetensorError" and (found := _OF_RUST.search(text)) and int(found[1]) == errno.EACCES:
        return OSError(errno.EPERM, os.strerror(errno.EACCES), found[2])
    if kind == "RuntimeError" and (found := _OF_TORCH.fullmatch(text)):
        return OSError(errno.EPERM, os.strerror(errno.EACCES), found[1])
    return None


def access_denied(error: OSError, *, workspace: Path, scratch: Path) -> StageError | None:
    """The failure for an error that says that a file on a volume may not be written or read; None for any other.

    For good, unless the file system is read-only: that it may have turned, and be mended (ADR 0145).

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
        return StageError(
            "VolumeAccessDenied",
            f"{what} The volume at {volume} is read-only. It is tried again: storage that fails turns read-only, and "
            "may be mended. If it is meant so, use a claim whose volume can be written, without readOnly in its "
            "PersistentVolume and not ReadOnlyMany.",
        )
    groups = ", ".join(str(group) for group in sorted({os.getgid(), *os.getgroups()}))
    return PermanentError(
        "VolumeAccessDenied",
        f"{what} The pod runs as user {os.getuid()} in the groups {groups}, who may not do that on the volume at "
        f"{volume}. Give its directory to one of them (chown, chmod g+rwX), or set spec.worker.securityContext in a "
        "new QwenSFTJob: runAsUser or supplementalGroups of the owner, or fsGroup where the storage knows it (host "
        "directories and most NFS exports do not).",
    )


def _unquoted(path: str) -> str:
    return str(ast.literal_eval(path))


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
