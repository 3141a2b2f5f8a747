"""A copy of the CustomResourceDefinition on a real apiserver, under another group so that no operator acts on it.

The copy has the schema that the models give now, whatever the cluster has installed, and is deleted afterwards.
"""

import copy
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException

from qwensft.api import crd

GROUP = "test.qwensft.io"
PLURAL = "qwensftcontracts"
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Refusal:
    """What the apiserver says about a document that it does not accept: field path -> message."""

    causes: dict[str, str]
    text: str


class Jobs:
    """The jobs of one namespace of the copied resource, as documents of the real group."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._api: Any = kubernetes.client.CustomObjectsApi(client)
        self.namespace = namespace
        self._where = {"group": GROUP, "version": "v1alpha1", "namespace": namespace, "plural": PLURAL}

    def create(self, document: dict[str, Any], *, dry_run: bool = False) -> Any:
        """Create strictly: an unknown field is an error. Raises ApiException."""
        body = copy.deepcopy(document) | {"apiVersion": f"{GROUP}/v1alpha1"}
        body["metadata"].pop("namespace", None)
        return self._api.create_namespaced_custom_object(
            body=body, field_validation="Strict", dry_run="All" if dry_run else None, **self._where
        )

    def refusal(self, document: dict[str, Any]) -> Refusal | None:
        """Dry-run a creation. Returns None if the document is accepted."""
        return _refusal(lambda: self.create(document, dry_run=True))

    def patch(self, name: str, patch: dict[str, Any], *, dry_run: bool = False) -> Any:
        """Merge-patch everything but the status. Raises ApiException."""
        return self._api.patch_namespaced_custom_object(
            name=name,
            body=patch,
            field_validation="Strict",
            dry_run="All" if dry_run else None,
            _content_type=_MERGE_PATCH,
            **self._where,
        )

    def apply(self, document: dict[str, Any], manager: str) -> Any:
        """Apply on the server, as GitOps tools do: under a manager's name, and taking fields from others."""
        return self._api.patch_namespaced_custom_object(
            name=document["metadata"]["name"],
            body=document | {"apiVersion": f"{GROUP}/v1alpha1"},
            field_manager=manager,
            field_validation="Strict",
            force=True,
            _content_type="application/apply-patch+yaml",
            **self._where,
        )

    def patch_refusal(self, name: str, patch: dict[str, Any]) -> Refusal | None:
        """Dry-run a merge patch. Returns None if it is accepted."""
        return _refusal(lambda: self.patch(name, patch, dry_run=True))

    def patch_status(self, name: str, status: dict[str, Any]) -> Any:
        """Merge-patch the status, as the operator does."""
        return self._api.patch_namespaced_custom_object_status(name=name, body={"status": status}, **self._where)

    def get(self, name: str) -> Any:
        """Read one job."""
        return self._api.get_namespaced_custom_object(name=name, **self._where)


def _refusal(attempt: Callable[[], object]) -> Refusal | None:
    try:
        attempt()
    except ApiException as error:
        if error.status not in (400, 422):
            raise
        status = json.loads(error.body or "{}")
        causes = status.get("details", {}).get("causes", [])
        return Refusal({cause.get("field", ""): cause["message"] for cause in causes}, status["message"])
    return None


@pytest.fixture(scope="session")
def client(kubeconfig: Path) -> Iterator[Any]:
    config: Any = kubernetes.config
    with config.new_client_from_config(str(kubeconfig)) as client:
        yield client


@pytest.fixture(scope="session")
def installed(client: Any) -> Iterator[dict[str, Any]]:
    """The copied definition, established."""
    definition = crd.custom_resource_definition()
    definition["metadata"]["name"] = f"{PLURAL}.{GROUP}"
    definition["spec"]["group"] = GROUP
    definition["spec"]["names"] |= {"plural": PLURAL, "singular": "qwensftcontract", "shortNames": ["qsftc"]}
    api: Any = kubernetes.client.ApiextensionsV1Api(client)
    _delete(lambda: api.delete_custom_resource_definition(f"{PLURAL}.{GROUP}"))
    created = eventually(lambda: api.create_custom_resource_definition(definition), "the old copy to be deleted")
    served: Any = kubernetes.client.CustomObjectsApi(client)
    eventually(
        lambda: served.list_cluster_custom_object(GROUP, "v1alpha1", PLURAL), "the copied definition to be served"
    )
    yield client.sanitize_for_serialization(created)
    _delete(lambda: api.delete_custom_resource_definition(f"{PLURAL}.{GROUP}"))


@pytest.fixture(scope="session")
def jobs(client: Any, installed: dict[str, Any]) -> Iterator[Jobs]:
    core: Any = kubernetes.client.CoreV1Api(client)
    namespace = f"contract-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": namespace}})
    yield Jobs(client, namespace)
    core.delete_namespace(namespace)


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Callable[..., str]:
    """Run kubectl on the cluster under test and return what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(kubeconfig), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _delete(delete: Callable[[], object]) -> None:
    try:
        delete()
    except ApiException as error:
        if error.status != 404:
            raise


def eventually(attempt: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (ApiException, AssertionError) as error:
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:.0f} s for {what}: {error}")
        time.sleep(0.2)
