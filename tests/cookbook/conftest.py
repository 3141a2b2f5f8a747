"""Fixtures of the cookbook's tests: a namespace with tiny models in the place of the real ones, made anew each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from quickstart import inputs
from quickstart.pods import RESTRICTED, USER
from quickstart.setup import Ready
from tests.cli.conftest import cli, context
from tests.cookbook.tasks import COOKBOOK, TASKS, Task
from tests.e2e.reporting import pytest_runtest_makereport
from tests.e2e.runs import Runs, installed

__all__ = ["cli", "context", "pytest_runtest_makereport"]
NAMESPACE = "qwensft-cookbook"
CLAIM = "team-data"


@pytest.fixture(scope="session")
def ready() -> Ready:
    return installed()


@pytest.fixture(scope="session")
def namespace(ready: Ready) -> Iterator[str]:
    ready.kubectl.delete("namespace", NAMESPACE)
    inputs.make_namespace(ready.kubectl, NAMESPACE)
    yield NAMESPACE
    ready.kubectl.delete("namespace", NAMESPACE)


@pytest.fixture(scope="session")
def runs(ready: Ready, namespace: str) -> Runs:
    return Runs(ready, namespace, {})


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


@pytest.fixture
def tiny_model(ready: Ready, namespace: str, task: Task) -> None:
    """The one that the task needs, on the volume; made once."""
    options = ["--architecture", task.tiny_model]
    inputs.make_model(ready.kubectl, namespace, ready.images.tiny_model, path=task.tiny_model, options=options)


@pytest.fixture(scope="session")
def pictures(ready: Ready, namespace: str) -> None:
    """The folder of receipts on a claim, put there as docs/data.md says: through a pod, by `kubectl cp`."""
    kubectl = ready.kubectl
    kubectl.apply(_claim(namespace), _pod(namespace, ready.images.trainer))
    kubectl("wait", "pod/files", "-n", namespace, "--for=condition=Ready", "--timeout=300s", timeout=330)
    kubectl("cp", str(COOKBOOK / "receipts"), f"{namespace}/files:/volume/receipts")
    kubectl.delete("pod", "files", "-n", namespace)


def _claim(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }


def _pod(namespace: str, image: str) -> dict[str, Any]:
    container = {
        "name": "files",
        "image": image,
        "command": ["sleep", "infinity"],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "claim", "mountPath": "/volume"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "files", "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }
