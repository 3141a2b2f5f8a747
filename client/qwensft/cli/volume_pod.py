"""A run's volume, through a pod that mounts its claim: in the trainer's image, as an ordinary user, for minutes.

The pod belongs to the run, so that nothing of it is left behind when this program is killed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from qwensft.api.v1alpha1 import API_VERSION, KIND, QwenSFTJob
from qwensft.cli.failures import CLUSTER, CommandError

if TYPE_CHECKING:
    from qwensft.client import Client

Document = dict[str, Any]

_MOUNT: Final = "/volume"
_CONTAINER: Final = "files"
_USER: Final = 65532  # as the operator's pods, unless the run says otherwise
_PATIENCE: Final = 300.0  # seconds until the pod runs: an image may have to be pulled
_LONGEST: Final = 6 * 3600  # seconds that the pod may live
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
_READ: Final = """
import shutil, sys
with open(sys.argv[1], "rb") as file:
    file.seek(int(sys.argv[2]))
    shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
"""
_REMOVE: Final = """
import shutil, sys
for folder in sys.argv[1:]:
    shutil.rmtree(folder)
"""


class PodVolume:
    """The volume as `qwensft.cli.volume.Volume` has it."""

    def __init__(self, client: Client, pod: str) -> None:
        self._client, self._pod = client, pod

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files below a folder, by paths relative to it."""
        found: dict[str, int] = json.loads(b"".join(self._run(_LIST, f"{_MOUNT}/{folder}")))
        return dict(sorted(found.items()))

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from an offset on."""
        return self._run(_READ, f"{_MOUNT}/{path}", str(offset))

    def remove(self, folders: list[str]) -> None:
        """Delete folders."""
        list(self._run(_REMOVE, *(f"{_MOUNT}/{folder}" for folder in folders)))

    def _run(self, script: str, *arguments: str) -> Iterator[bytes]:
        stream = self._client.connection.exec(self._pod, _CONTAINER, ["python3", "-c", script, *arguments])
        errors = b""
        try:
            while stream.is_open():
                stream.update(timeout=1)
                while piece := stream.read_stdout(timeout=0) if stream.peek_stdout() else b"":
                    yield piece
                if stream.peek_stderr():
                    errors += stream.read_stderr(timeout=0)
            if piece := stream.read_stdout(timeout=0):
                yield piece
            if stream.returncode:
                last = errors.decode(errors="replace").strip().rpartition("\n")[2]
                raise CommandError(f"the volume cannot be read: {last}", CLUSTER)
        finally:
            stream.close()


@contextmanager
def volume_of(client: Client, job: QwenSFTJob, *, writable: bool = False) -> Iterator[PodVolume]:
    """Give the volume of a run while its pod lives.

    Raises:
        CommandError: the pod does not start.
    """
    pod = _pod(job, _image(client, job), writable=writable)
    name = client.connection.create("pods", pod)["metadata"]["name"]
    try:
        _wait(client, name, job)
        yield PodVolume(client, name)
    finally:
        with suppress(Exception):  # it ends by itself, and goes with the run
            client.connection.delete("pods", name, gracePeriodSeconds=0)


def _image(client: Client, job: QwenSFTJob) -> str:
    """The image that the run has begun with."""
    if job.spec.worker.image is not None:
        return job.spec.worker.image
    begun = client.connection.get("configmaps", f"{job.metadata.name}-prepare-1")
    image: str = begun["data"]["image"]
    return image


def _pod(job: QwenSFTJob, image: str, *, writable: bool) -> Document:
    worker = job.spec.worker
    wanted = worker.security_context.document() if worker.security_context else {}
    assigned = wanted.pop("assignIds", True)
    ids = {"runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER} if assigned else {}
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": job.metadata.name, "uid": job.metadata.uid}
    spec: Document = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": _LONGEST,
        "imagePullSecrets": [secret.document() for secret in worker.image_pull_secrets or ()],
        "nodeSelector": dict(worker.node_selector or {}),
        "tolerations": [toleration.document() for toleration in worker.tolerations or ()],
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "fsGroupChangePolicy": "OnRootMismatch",
            **ids,
            **wanted,
        },
        "containers": [
            {
                "name": _CONTAINER,
                "image": image,
                "command": ["sleep", str(_LONGEST)],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                "volumeMounts": [{"name": "volume", "mountPath": _MOUNT, "readOnly": not writable}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": job.workspace_claim}}],
    }
    metadata = {
        "name": f"qwensft-files-{secrets.token_hex(3)}",
        "labels": {"app.kubernetes.io/name": "qwensft-files"},
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _wait(client: Client, name: str, job: QwenSFTJob) -> None:
    deadline = time.monotonic() + _PATIENCE
    pod: Document = {}
    while time.monotonic() < deadline:
        pod = client.connection.get("pods", name)
        if pod["status"].get("phase") == "Running":
            return
        if pod["status"].get("phase") in ("Failed", "Succeeded"):
            break
        time.sleep(0.5)
    states = [one.get("state", {}).get("waiting", {}) for one in pod["status"].get("containerStatuses") or []]
    conditions = [one for one in pod["status"].get("conditions") or [] if one.get("status") == "False"]
    why = [one.get("message") or one.get("reason") or "" for one in (*states, *conditions)]
    raise CommandError(
        f"the pod that mounts claim {job.workspace_claim} does not start: {next(filter(None, why), 'nobody says why')}",
        CLUSTER,
    )
