"""A pod that does nothing but hold a claim, for what is sent to it and read from it.

It fits the Pod Security Standard `restricted`, belongs to the run, and ends by itself once nobody has used it for a
while: what a client that was killed leaves behind holds nothing, and goes with the run (ADR 0173).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from qwensft.api.v1alpha1 import API_VERSION, KIND, QwenSFTJob
from qwensft.client import commands
from qwensft.client.connection import Connection
from qwensft.client.errors import ClientError, NameExistsError, NotFoundError, TransferError

Document = dict[str, Any]

CONTAINER: Final = "files"
MOUNT: Final = "/workspace"
"""Where the claim is, as in the pods of a run."""
ALIVE: Final = "/tmp/alive"  # noqa: S108 - in the pod
IDLE_MINUTES: Final = 10
_USER: Final = 65532
_PATIENCE: Final = 300.0  # seconds for a pod to start: an image may have to be pulled
_TOUCHED_EVERY: Final = IDLE_MINUTES * 60 / 3  # seconds
_PLACED: Final = ("affinity", "imagePullSecrets", "nodeSelector", "schedulerName", "tolerations")
_IDLE: Final = (
    f"touch {ALIVE}; trap 'exit 0' TERM; "
    f'while [ -n "$(find {ALIVE} -mmin -{IDLE_MINUTES})" ]; do sleep 5 & wait $!; done'
)


def owner(job: QwenSFTJob) -> Document:
    """Return the owner reference of what goes with a run."""
    return {"apiVersion": API_VERSION, "kind": KIND, "name": job.metadata.name, "uid": job.metadata.uid}


def manifest(job: QwenSFTJob, name: str, claim: str, image: str, *, writable: bool) -> Document:
    """Return the pod: placed as the run's own preparation is, with the claim at /workspace."""
    worker, prepare = job.spec.worker, job.spec.prepare
    chosen = worker.security_context.document() if worker.security_context else {}
    assigned = {"runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER} if chosen.pop("assignIds", True) else {}
    placed = {**worker.document(), **prepare.document()}
    container = {
        "name": CONTAINER,
        "image": image,
        "command": ["sh", "-c", _IDLE],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            {"name": "claim", "mountPath": MOUNT, "readOnly": not writable},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if worker.image_pull_policy:
        container["imagePullPolicy"] = worker.image_pull_policy
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "fsGroupChangePolicy": "OnRootMismatch",
            **assigned,
            **chosen,
        },
        **{name: placed[name] for name in _PLACED if name in placed},
        "containers": [container],
        "volumes": [
            {"name": "claim", "persistentVolumeClaim": {"claimName": claim, "readOnly": not writable}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}},
        ],
    }
    # None of the operator's own labels: it would take the pod for one of a stage.
    labels = {"app.kubernetes.io/name": "qwensft-client", "app.kubernetes.io/component": CONTAINER}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner(job)]},
        "spec": spec,
    }


@contextmanager
def held(connection: Connection, pod: Document) -> Iterator[str]:
    """Start a pod, give its name, and delete it in the end, also after Ctrl-C.

    It does not end by itself meanwhile: who hashes files here, or thinks about a question, uses it, too.

    Raises:
        TransferError: it does not start.
        RefusedError: a policy refuses it.
    """
    name, over = pod["metadata"]["name"], threading.Event()

    def touch() -> None:
        while not over.wait(_TOUCHED_EVERY):
            with suppress(ClientError):  # whoever uses it next is told
                commands.run(connection, name, CONTAINER, ["touch", ALIVE])

    try:
        start(connection, pod)
        threading.Thread(target=touch, daemon=True, name=f"keeps {name}").start()
        yield name
    finally:
        over.set()
        with suppress(ClientError):  # what went wrong before says more, and the pod ends by itself
            stop(connection, name)


def start(connection: Connection, pod: Document) -> None:
    """Create a pod and wait until it runs; one of this name that has ended, or is another run's, is deleted first.

    Raises:
        TransferError: it does not start; the text has what Kubernetes says.
        RefusedError: a policy refuses it.
    """
    name, deadline = pod["metadata"]["name"], time.monotonic() + _PATIENCE
    while True:
        try:
            connection.create("pods", pod)
            break
        except NameExistsError:
            found = _found(connection, name)
            own = found is not None and found["metadata"].get("ownerReferences") == pod["metadata"]["ownerReferences"]
            if found and own and _phase(found) in ("Pending", "Running") and not _is_deleted(found):
                break
            if found and not _is_deleted(found):
                stop(connection, name)
            if time.monotonic() > deadline:
                raise TransferError(f"Pod {name} is there already and does not go: delete it") from None
            time.sleep(1)
    found = None
    while time.monotonic() < deadline:
        found = connection.get("pods", name)
        if _phase(found) == "Running":
            return
        if _phase(found) in ("Succeeded", "Failed"):
            break
        time.sleep(0.5)
    raise TransferError(f"Pod {name}, which is to hold the files, does not run: {_trouble(found)}")


def stop(connection: Connection, name: str) -> None:
    """Delete a pod; one that is gone is gone."""
    try:
        connection.delete("pods", name, gracePeriodSeconds=1)
    except NotFoundError:
        return


def _found(connection: Connection, name: str) -> Document | None:
    try:
        return connection.get("pods", name)
    except NotFoundError:
        return None


def _phase(pod: Document) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _is_deleted(pod: Document) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _trouble(pod: Document | None) -> str:
    status = (pod or {}).get("status", {})
    words = [one.get("message", "") for one in status.get("conditions") or [] if one["status"] == "False"]
    for container in status.get("containerStatuses") or []:
        states = (container.get("state") or {}).values()
        words += [f"{state.get('reason', '')}: {state.get('message', '')}".strip(": ") for state in states]
    told = "; ".join(dict.fromkeys(word for word in [status.get("message", ""), *words] if word))
    return told or f"it is {status.get('phase', 'Pending')} after {_PATIENCE:.0f} s"
