"""A run's volume through a pod: one of the run's own, else one that the client makes for it (ADR 0173)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import uuid4

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.client import commands, pods, transfer
from qwensft.client.errors import TransferError
from qwensft.client.files import open_files

if TYPE_CHECKING:
    from qwensft.client import Client
    from qwensft.client.connection import Connection

_RANGE: Final = 2**28  # bytes that one connection carries
_SIZE: Final = 8  # bytes of the number of those that follow
_LIST: Final = """
import json, os, sys
root, found = sys.argv[1], {}
for folder, _, names in os.walk(root):
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            found[os.path.relpath(path, root)] = os.path.getsize(path)
print(json.dumps(found))
"""
# It says first how much will come, and ends when it is told that all is there: what is on its way when a command ends
# may be lost, though Kubernetes says that all went well.
_READ: Final = """
import os, sys
path, offset, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
out = sys.stdout.buffer
with open(path, "rb") as file:
    left = min(left, max(0, os.fstat(file.fileno()).st_size - offset))
    out.write(left.to_bytes(8, "big"))
    file.seek(offset)
    while left:
        piece = file.read(min(left, 1 << 18)) or sys.exit("it has become shorter while it was read")
        out.write(piece)
        left -= len(piece)
out.flush()
sys.stdin.buffer.read(1)
"""
_REMOVE: Final = """
import shutil, sys
for folder in sys.argv[1:]:
    shutil.rmtree(folder)
"""


class PodVolume:
    """The volume as `qwensft.cli.volume.Volume` has it; paths are relative to its root."""

    def __init__(self, connection: Connection, pod: str, container: str) -> None:
        self._connection, self._pod, self._container = connection, pod, container

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files below a folder, by paths relative to it.

        Raises:
            TransferError: they could not be listed.
        """
        try:
            found: dict[str, int] = json.loads(self._run(_LIST, f"{pods.MOUNT}/{folder}"))
        except ValueError as error:
            raise TransferError(f"the connection to Pod {self._pod} has lost bytes; try again") from error
        return dict(sorted(found.items()))

    def remove(self, folders: list[str]) -> None:
        """Delete folders."""
        self._run(_REMOVE, *(f"{pods.MOUNT}/{folder}" for folder in folders))

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from an offset on, as they come; a connection that breaks is opened anew.

        Raises:
            TransferError: nothing came in several tries, or there is no such file.
        """
        failures = 0
        while True:
            begin = offset
            try:
                for piece in self._range(path, offset):
                    offset += len(piece)
                    yield piece
            except TransferError as error:
                failures = 1 if offset > begin else failures + 1
                if failures == transfer.TRIES or isinstance(error, commands.CommandFailedError):
                    raise TransferError(f"{path} cannot be read: {error}; try again: it goes on") from error
                transfer.pause(failures)
            else:
                if offset - begin < _RANGE:
                    return

    def _range(self, path: str, offset: int) -> Iterator[bytes]:
        command = ["python3", "-c", _READ, f"{pods.MOUNT}/{path}", str(offset), str(_RANGE)]
        with closing(commands.start(self._connection, self._pod, self._container, command, stdin=True)) as reading:
            output = reading.output()
            head = b""
            while len(head) < _SIZE:
                head += next(output, b"") or _lost(self._pod)
            left, piece = int.from_bytes(head[:_SIZE], "big"), head[_SIZE:]
            while left > len(piece):
                left -= len(piece)
                yield piece
                piece = next(output, b"") or _lost(self._pod)
            reading.write(b"\n")
            yield piece
            for _ in output:
                pass

    def _run(self, script: str, *arguments: str) -> bytes:
        command = ["python3", "-c", script, *arguments]
        return commands.run(self._connection, self._pod, self._container, command)


def _lost(pod: str) -> NoReturn:
    raise TransferError(f"the connection to Pod {pod} has lost bytes")


@contextmanager
def volume_of(client: Client, job: QwenSFTJob, *, writable: bool = False) -> Iterator[PodVolume]:
    """Give the volume of a run while a pod has it.

    Raises:
        NotFoundError: the run has no volume yet.
        TransferError: the pod does not start.
    """
    connection = client.connection
    if not writable:
        with open_files(connection, job, lambda: client.image_for(job)) as files:
            yield PodVolume(connection, files.pod, files.container)
        return
    name = f"{job.metadata.name}-files-{uuid4().hex[:5]}"
    manifest = pods.manifest(job, name, job.workspace_claim, client.image_for(job), writable=True)
    with pods.held(connection, manifest):
        yield PodVolume(connection, name, pods.CONTAINER)
