"""Which image a pod for files has: the trainer's. It holds Python, and nodes have it already."""

from __future__ import annotations

from typing import Any, Final

from qwensft.api.v1alpha1 import LABEL_JOB_UID, LABEL_MANAGED_BY, MANAGED_BY, QwenSFTJob
from qwensft.client.connection import Connection
from qwensft.client.errors import ImageUnknownError, NotFoundError, NotPermittedError

Document = dict[str, Any]

_OPERATOR: Final = "app.kubernetes.io/name=qwen-sft-operator"
_VARIABLE: Final = "QWENSFT_TRAINER_IMAGE"


def trainer_image(connection: Connection, job: QwenSFTJob) -> str:
    """Return the trainer image: the run's own, else the installation's, else that of another run in the namespace.

    Raises:
        ImageUnknownError: none of these can be seen.
    """
    found = (
        job.spec.worker.image
        or _begun_with(connection, job)
        or _of_the_installation(connection)
        or _of_pods(connection, f"{LABEL_MANAGED_BY}={MANAGED_BY}")
    )
    if not found:
        raise ImageUnknownError(
            "nothing tells the trainer's image: no run in this namespace has had a pod yet, and you may not read the "
            "operator's Deployment; ask who installed it for trainerImage, and give Client(image=...)"
        )
    return found


def _begun_with(connection: Connection, job: QwenSFTJob) -> str | None:
    if not job.status.has_begun:
        return None
    try:
        data = connection.get("configmaps", f"{job.metadata.name}-prepare-1").get("data") or {}
    except (NotFoundError, NotPermittedError):
        data = {}
    return data.get("image") or _of_pods(connection, f"{LABEL_JOB_UID}={job.metadata.uid}")


def _of_the_installation(connection: Connection) -> str | None:
    try:
        items = connection.list("deployments", everywhere=True, labelSelector=_OPERATOR)["items"]
    except NotPermittedError:
        return None
    variables = [
        variable
        for item in items
        for container in item["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env") or []
    ]
    return next((one.get("value") for one in variables if one["name"] == _VARIABLE), None)


def _of_pods(connection: Connection, selector: str) -> str | None:
    pods = connection.list("pods", labelSelector=selector)["items"]
    pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    return next((one["image"] for one in containers if one["name"] == "trainer"), None)
