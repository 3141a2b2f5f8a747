"""A volume of its own size that can get full, read-only or broken, and be well again.

Below is a real ext4 in a file; above it a FUSE file system (faultfs/) that answers in its place when it is told to.
Device mapper, whose targets `error` and `flakey` do the like for a block device, is not in every kernel, and what it
breaks an ext4 does not forget before it is mounted anew. Needs root, /dev/fuse, loop devices and Go.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

REPOSITORY = Path(__file__).resolve().parents[2]
_SOURCES = Path(__file__).parent / "faultfs"
_PROGRAM = REPOSITORY / "build" / "faultfs"
_BALLAST = "ballast"

Trouble = Literal["full", "read-only", "error"]


def missing() -> str | None:
    """What this machine lacks for such a volume; None when it has all."""
    if os.geteuid() != 0:
        return "mounting needs root"
    return None if Path("/dev/fuse").exists() else "the kernel has no FUSE"


class Disk:
    """A volume of `mib` MiB at `mountpoint`, as long as the `with` block lasts. `folder` holds what it consists of.

    `below` is what is on it, to be looked at whatever trouble it is in.
    """

    def __init__(self, folder: Path, mountpoint: Path, mib: int) -> None:
        self.below, self._image, self._mib = folder / "ext4", folder / "disk.img", mib
        self.mountpoint = mountpoint

    def __enter__(self) -> Self:
        build()
        self.below.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(self._mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self._image], check=True)
        subprocess.run(["mount", "-o", "loop", self._image, self.below], check=True)
        (self.below / "lost+found").rmdir()
        self.below.chmod(0o777)
        self._server = subprocess.Popen(
            [_PROGRAM, self.below, self.mountpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._be("none")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(60)
        subprocess.run(["umount", "--lazy", self.below], check=True)
        self._image.unlink()

    @contextmanager
    def in_trouble(self, trouble: Trouble) -> Iterator[None]:
        """Full (ENOSPC), read-only (EROFS), or broken (EIO) until the block ends."""
        if trouble == "full":
            self._fill()
        else:
            self._be(trouble)
        try:
            yield
        finally:
            self._be("none")
            (self.below / _BALLAST).unlink(missing_ok=True)

    def _fill(self) -> None:
        """Leave not one block: whatever else is freed meanwhile is not ours to take."""
        with (self.below / _BALLAST).open("wb") as ballast:
            piece = 64 << 20
            while piece >= os.statvfs(self.below).f_bsize:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def _be(self, how: str) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{how}\n")
        self._server.stdin.flush()
        said = self._server.stdout.readline().strip()
        assert said == how, f"faultfs has ended or says {said!r}"


def build() -> None:
    """Compile the file system; quick when nothing has changed."""
    _PROGRAM.parent.mkdir(exist_ok=True)
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(_PROGRAM), "."]
    subprocess.run(command, cwd=_SOURCES, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
