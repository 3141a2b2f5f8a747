"""Files that other processes read while they are written: atomic replacement, JSON, SHA-256.

Every writer here goes through a temporary name in the same directory and a rename, so a reader or a crash never sees
half a file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qwensft_trainer.base.causes import is_about_the_path
from qwensft_trainer.base.environment import cpu_limit

OF_NFS = ".nfs"
"""So begin the names under which NFS keeps files that are deleted while a process of the node has them open."""
_LARGEST_TEXT = 256 << 20  # the state of a training logs each step in some hundred bytes
_NAME_CHARACTERS = 1000
_PART_BYTES = 255


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) atomically and durably; parent directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the directory of `path` that no other process has, in whichever pod: all of them are PID 1."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def is_name(name: str) -> bool:
    """Whether a file system can hold a file of this name, directories included."""
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return len(name) <= _NAME_CHARACTERS and "\0" not in name and all(len(part) <= _PART_BYTES for part in parts)


def sync(path: Path) -> None:
    """Have a file's content, or a directory's entries, on the disk before this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():  # some cannot do that to directories
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Like write_text, for JSON. Raises ValueError on NaN and infinities: strict readers refuse them."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None when the file is missing, is none, is huge, or holds anything else.

    Raises OSError for a volume in trouble: what cannot be read now may be there all the same.
    """
    try:
        value = json.loads(_read_again_if_replaced(path))
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        if not is_about_the_path(error):
            raise
        return None
    return value if isinstance(value, dict) else None


def _read_again_if_replaced(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return read_text(path)  # NFS says so once when another node has renamed a new file over it


def read_text(path: Path) -> str:
    """The text (UTF-8) of a file. Raises ValueError for what is none: a pipe is waited for, a device has no end."""
    with open(path, encoding="utf-8", opener=_opened) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_TEXT:
            raise ValueError(f"{path} is no file of a bearable size")
        return stream.read()


def _opened(name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISSOCK(os.stat(name).st_mode):  # else a device that is not there
            raise ValueError(f"{name} is a socket") from error
        raise


def leads_out(path: Path, root: Path) -> bool:
    """Whether a path below `root` is a file or directory elsewhere, by symbolic links; it need not exist.

    Whoever writes to a volume can leave links on it, which a pod follows to its own credentials and other volumes.
    """
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def remove_links(directory: Path) -> None:
    """Delete the symbolic links below a directory in which runs make none: writing by their names leads elsewhere."""
    waiting = [str(directory)] if directory.is_dir() else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    os.unlink(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def remove(path: Path) -> None:
    """Delete whatever stands there: a file, a link, a pipe, a whole directory; nothing happens when there is none.

    Raises OSError with an absolute path: the directory's, where Python tells the last part alone of what is in it.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.filename is not None and not os.path.isabs(error.filename):
            error.filename = str(path)
        raise


def sha256_of_file(path: Path) -> str:
    """Lower-case hex SHA-256 of a file's bytes, read in pieces of 4 MiB."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while piece := stream.read(4 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """A digest that does not depend on the order of keys: "sha256:<hex>"."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def manifest_of(directory: Path, *, exclude: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """{relative name: {"sha256": hex, "sizeBytes": n}} of the regular files directly inside `directory`."""
    skipped = set(exclude)
    paths = [path for path in sorted(directory.iterdir()) if path.is_file() and path.name not in skipped]
    with ThreadPoolExecutor(cpu_limit()) as threads:  # hashing leaves the others the interpreter
        hashes = list(threads.map(sha256_of_file, paths))
    return {
        path.name: {"sha256": sha256, "sizeBytes": path.stat().st_size}
        for path, sha256 in zip(paths, hashes, strict=True)
    }


def manifest_digest(manifest: dict[str, dict[str, Any]]) -> str:
    """One digest for a whole directory: SHA-256 over the sorted "<sha256>  <name>" lines, as sha256sum prints them."""
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in sorted(manifest.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, replacing it; a copy where the file system has no hard links."""
    temporary = temporary_beside(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def replace_directory(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`. A crash in between leaves the old directory as `.<name>.old`.

    restore_directory undoes such a half-done replacement; call it before looking at `target`.
    """
    old = _displaced(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def restore_directory(target: Path) -> None:
    """Bring back the old directory when a replacement was cut off between its two renames."""
    old = _displaced(target)
    if old.is_dir() and not target.exists():
        old.rename(target)


def _displaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")
