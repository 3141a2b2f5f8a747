"""A file onto a claim, through a pod that holds it: in parts, each checked, gone on with after whatever broke.

What has arrived lies in `<sha256>.part` beside the place of the file: its name is that of its content. So another call,
or another process, goes on with it, and nothing is taken for the file before its digest is right.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwensft.client import commands, pods
from qwensft.client.connection import Connection
from qwensft.client.errors import RowsError, TransferError

PART: Final = 64 * 2**20  # bytes: what is sent again when a connection breaks
TRIES: Final = 6  # in a row, without a byte that got through
_PAUSE: Final = 1.0  # seconds before the second try; doubled with each

_OTHER: Final = "what has arrived is not what was sent"

_STATE: Final = f"""
import os, sys
open({pods.ALIVE!r}, "w").close()
for path in sys.argv[1:]:
    print(os.path.getsize(path) if os.path.exists(path) else -1)
"""
_RECEIVE: Final = f"""
import hashlib, os, sys
open({pods.ALIVE!r}, "w").close()
path, offset, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(os.path.dirname(path), exist_ok=True)
digest = hashlib.sha256()
with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
    file.truncate(offset)
    file.seek(offset)
    while left:
        block = sys.stdin.buffer.read1(min(left, 1 << 20))
        if not block:
            sys.exit("the connection ended")
        file.write(block)
        digest.update(block)
        left -= len(block)
        os.utime({pods.ALIVE!r})
    file.flush()
    os.fsync(file.fileno())
print(digest.hexdigest())
"""
# What takes minutes says now and then that it goes on: a command that is silent for long is taken for dead.
_FINISH: Final = f"""
import hashlib, os, sys, time
part, path, wanted = sys.argv[1:]
digest, told = hashlib.sha256(), 0.0
with open(part, "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
        if time.monotonic() - told > 20:
            told = time.monotonic()
            open({pods.ALIVE!r}, "w").close()
            print(file=sys.stderr, flush=True)
if digest.hexdigest() != wanted:
    os.unlink(part)
    sys.exit("{_OTHER}")
os.rename(part, path)
directory = os.open(os.path.dirname(path), os.O_RDONLY)
os.fsync(directory)
"""


def send(
    connection: Connection,
    pod: str,
    source: Path,
    target: str,
    *,
    sha256: str,
    tell: Callable[[int, int], None] = lambda done, size: None,
    part: int = PART,
) -> None:
    """Send a file into a pod of `pods.start`. One that is there with this size was checked when it came.

    Args:
        connection: Where the pod is.
        pod: Its name.
        source: The file.
        target: Where it goes: an absolute path in the pod.
        sha256: Its digest, as the rows' description has it.
        tell: Is told the bytes that are there, and those of the whole file.
        part: Bytes that are sent and checked at a time.

    Raises:
        TransferError: it did not arrive after several tries; another call goes on with what did.
        RowsError: it is no longer what its digest says.
    """
    partial = f"{target.rpartition('/')[0]}/{sha256}.part"
    sending = _Sending(connection, pod, source, source.stat().st_size, partial, target, sha256, tell, part)
    failures = 0
    while True:
        reached = sending.arrived
        try:
            sending.go_on()
        except TransferError:
            failures = 1 if sending.arrived > reached else failures + 1
            if failures == TRIES:
                raise
            pause(failures)
        else:
            return


def pause(failures: int) -> None:
    """Wait before another try, the longer the more of them have failed in a row."""
    time.sleep(_PAUSE * 2 ** (failures - 1))


@dataclass(slots=True)
class _Sending:
    connection: Connection
    pod: str
    source: Path
    size: int
    partial: str
    target: str
    sha256: str
    tell: Callable[[int, int], None]
    part: int
    arrived: int = 0
    """Bytes that are there and were checked."""

    def go_on(self) -> None:
        """Send what is not there yet, and let it become the file. Raises TransferError."""
        there, complete = (int(word) for word in self._python(_STATE, self.partial, self.target).split())
        if complete == self.size:
            return
        self.arrived = self.size if there == self.size else max(there, 0) // self.part * self.part
        self.tell(self.arrived, self.size)
        while self.arrived < self.size:
            self._send_part(min(self.part, self.size - self.arrived))
        try:
            self._python(_FINISH, self.partial, self.target, self.sha256)
        except commands.CommandFailedError as error:
            self.arrived = 0
            if _OTHER in str(error) and _sha256(self.source) != self.sha256:
                raise RowsError(f"{self.source} was changed while it was sent: call again") from error
            raise

    def _send_part(self, length: int) -> None:
        digest = hashlib.sha256()
        done = self.arrived

        def blocks() -> Iterator[bytes]:
            with self.source.open("rb") as file:
                file.seek(self.arrived)
                left = length
                while left:
                    block = file.read(min(left, 2**20))
                    if not block:
                        raise RowsError(f"{self.source} has become shorter while it was sent: call again")
                    digest.update(block)
                    left -= len(block)
                    yield block

        def sent(count: int) -> None:
            nonlocal done
            done += count
            self.tell(done, self.size)

        said = self._python(_RECEIVE, self.partial, str(self.arrived), str(length), stdin=blocks(), sent=sent)
        if said.strip() != digest.hexdigest():
            raise TransferError("a part arrived damaged")
        self.arrived += length

    def _python(self, script: str, *arguments: str, **options: Any) -> str:
        command = ["python3", "-c", script, *arguments]
        return commands.run(self.connection, self.pod, pods.CONTAINER, command, **options).decode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
