"""Files of a run, read off its volume: by a pod of the run while one runs, else by a pod that is made for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.client import commands, logs, pods
from qwensft.client.connection import Connection
from qwensft.client.errors import NotFoundError, TransferError

Document = dict[str, Any]

# It has little in memory: that of a training pod is the training's. Each file is its name and size, and then itself.
_READ: Final = """
import glob, json, os, sys
root, pattern = sys.argv[1:]
out = sys.stdout.buffer
for path in glob.glob(os.path.join(glob.escape(root), pattern)):
    if os.path.isfile(path):
        with open(path, "rb") as file:
            left = os.fstat(file.fileno()).st_size
            out.write(json.dumps([os.path.relpath(path, root), left]).encode() + b"\\n")
            while left and (block := file.read(min(left, 1 << 18))):
                out.write(block)
                left -= len(block)
            out.write(bytes(left))
out.write(b"[]\\n")
"""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The directory of a run, within a pod that has its volume."""

    connection: Connection
    pod: str
    container: str
    directory: str
    """Absolute path in the pod."""

    def read(self, pattern: str) -> dict[str, bytes]:
        """Return the files that fit a pattern, by their paths in the directory. They are held in memory: small ones.

        Raises:
            TransferError: they could not be read.
        """
        command = ["python3", "-c", _READ, self.directory, pattern]
        rest = commands.run(self.connection, self.pod, self.container, command)
        found: dict[str, bytes] = {}
        while rest != b"[]\n":
            head, end, rest = rest.partition(b"\n")
            if not end:
                raise TransferError(f"the connection to Pod {self.pod} has lost bytes; try again")
            path, size = json.loads(head)
            found[path], rest = rest[:size], rest[size:]
        return found


@contextmanager
def open_files(connection: Connection, job: QwenSFTJob, image: Callable[[], str]) -> Iterator[RunFiles]:
    """Yield the files of a run; a pod that was made for it is deleted afterwards.

    Args:
        connection: Where the run is.
        job: The run.
        image: Is asked for the image of a pod, if one has to be made.

    Raises:
        NotFoundError: the run has no volume yet.
        TransferError: the pod does not start.
    """
    directory = f"{pods.MOUNT}/{job.run_path}"
    running = _running(connection, job)
    if running is not None:
        # Its claim may be held by the node that it runs on.
        yield RunFiles(connection, running, logs.CONTAINER, directory)
        return
    if not job.status.has_begun:
        raise NotFoundError(f"{job.metadata.name} has no files yet: it has not begun; why() tells what it waits for")
    connection.get("persistentvolumeclaims", job.workspace_claim)
    name = f"{job.metadata.name}-files-{uuid.uuid4().hex[:5]}"
    manifest = pods.manifest(job, name, job.workspace_claim, image(), writable=False)
    with pods.held(connection, manifest):
        yield RunFiles(connection, name, pods.CONTAINER, directory)


def _running(connection: Connection, job: QwenSFTJob) -> str | None:
    found = connection.list("pods", labelSelector=logs.of_run(job))["items"]
    return next((pod["metadata"]["name"] for pod in sorted(found, key=logs.place) if _runs(pod)), None)


def _runs(pod: Document) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    own = [one for one in statuses if one["name"] == logs.CONTAINER]
    return "deletionTimestamp" not in pod["metadata"] and any("running" in (one.get("state") or {}) for one in own)
