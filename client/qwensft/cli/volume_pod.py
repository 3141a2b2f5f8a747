"""A run's volume through a pod: one of the run's own, else one that the client makes for it (ADR 0173)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.client import pods
from qwensft.client.errors import TransferError
from qwensft.client.files import open_files

if TYPE_CHECKING:
    from qwensft.client import Client
    from qwensft.client.connection import Connection

_SECONDS: Final = 300  # for which a file may give nothing
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
# A pod that is made for files ends when nobody has touched this file for a while.
_READ: Final = f"""
import os, sys, time
path, offset = sys.argv[1], int(sys.argv[2])
touched = 0
with open(path, "rb") as file:
    file.seek(offset)
    while piece := file.read(1 << 20):
        sys.stdout.buffer.write(piece)
        if time.monotonic() - touched > 60 and os.path.exists({pods.ALIVE!r}):
            os.utime({pods.ALIVE!r})
            touched = time.monotonic()
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
        """Return the bytes of all files below a folder, by paths relative to it."""
        found: dict[str, int] = json.loads(self._run(_LIST, f"{pods.MOUNT}/{folder}"))
        return dict(sorted(found.items()))

    def remove(self, folders: list[str]) -> None:
        """Delete folders."""
        self._run(_REMOVE, *(f"{pods.MOUNT}/{folder}" for folder in folders))

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from an offset on, as they come.

        Raises:
            TransferError: the connection broke, or there is no such file.
        """
        from websocket import WebSocketException

        command = ["python3", "-c", _READ, f"{pods.MOUNT}/{path}", str(offset)]
        socket = self._connection.exec(self._pod, self._container, command)
        waited = 0
        told = b""
        try:
            while socket.is_open() and waited < _SECONDS:
                socket.update(timeout=1)
                if piece := socket.read_channel(1):
                    waited = 0
                    yield piece
                else:
                    waited += 1
                told += socket.read_channel(2) or b""
            if piece := socket.read_channel(1):
                yield piece
            verdict = _verdict(socket.read_channel(3))
        except (WebSocketException, OSError) as error:
            raise TransferError(f"the connection to Pod {self._pod} broke: {error}; try again: it goes on") from error
        finally:
            socket.close()
        if verdict != "Success":
            last = told.decode(errors="replace").strip().rpartition("\n")[2]
            raise TransferError(f"{path} cannot be read: {last or 'the connection broke'}; try again: it goes on")

    def _run(self, script: str, *arguments: str) -> bytes:
        return pods.run(self._connection, self._pod, self._container, ["python3", "-c", script, *arguments])


def _verdict(channel: Any) -> str:
    """What Kubernetes says of a command at its end; "" where the connection broke before."""
    try:
        return str(json.loads(channel or b"{}").get("status", ""))
    except ValueError:
        return ""


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
    try:
        pods.start(connection, pods.manifest(job, name, job.workspace_claim, client.image_for(job), writable=True))
        yield PodVolume(connection, name, pods.CONTAINER)
    finally:
        pods.stop(connection, name)
