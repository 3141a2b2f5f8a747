"""An API server of its own, with what a release had stored in it. Needs the local cluster's binaries, no cluster."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3
from benchmarks.control_plane.plane import BENCH, Plane, control_plane

from qwensft.api import crd

from .records import MOMENTS, NAMESPACE, RELEASES, Manifest, Release

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RUNS = f"/apis/qwensft.io/v1alpha1/namespaces/{NAMESPACE}/qwensftjobs"
PUBLISHED = "/openapi/v3/apis/qwensft.io/v1alpha1"
_MERGE_PATCH = "application/merge-patch+json"
_PATIENCE = 300.0  # seconds
# Where the API server keeps the kinds of a record.
_KEYS = {
    "QwenSFTJob": "qwensft.io/qwensftjobs",
    "ConfigMap": "configmaps",
    "Service": "services/specs",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Job": "jobs",
    "Pod": "pods",
}


class Server:
    """The API server, and what is below it."""

    def __init__(self, plane: Plane, runner: asyncio.Runner) -> None:
        self.plane, self.runner = plane, runner
        self._headers = {"Authorization": f"Bearer {plane.tokens[BENCH]}"}
        self._pool = urllib3.PoolManager(ca_certs=str(plane.authority), retries=False)

    def send(self, method: str, path: str, body: Manifest | None = None, kind: str = "application/json") -> Manifest:
        """Ask the API server; fails with its words."""
        answer = self._pool.request(
            method,
            self.plane.url + path,
            body=None if body is None else json.dumps(body),
            headers={**self._headers, "Content-Type": kind},
        )
        assert answer.status < 300, answer.data.decode()
        content: Manifest = json.loads(answer.data)
        return content

    def get(self, path: str) -> Manifest:
        return self.send("GET", path)

    def patch(self, path: str, body: Manifest) -> Manifest:
        return self.send("PATCH", path, body, _MERGE_PATCH)

    def create_definition(self, definition: Manifest) -> None:
        """Create a CustomResourceDefinition, and wait until it is served."""
        self.send("POST", DEFINITIONS, definition)
        self.until(lambda: _is_served(self.get(f"{DEFINITIONS}/{definition['metadata']['name']}")))
        self.until(lambda: "items" in self.get(RUNS))

    def replace_definition(self, definition: Manifest) -> Manifest:
        """Upgrade a CustomResourceDefinition, and wait until nothing of the one of before is seen."""
        path = f"{DEFINITIONS}/{definition['metadata']['name']}"
        version = self.get(path)["metadata"]["resourceVersion"]
        meta = definition["metadata"] | {"resourceVersion": version}
        self.send("PUT", path, definition | {"metadata": meta})
        # The API server takes a moment for another schema, and tells nobody when.
        time.sleep(5)
        return self.get(path)

    def until(self, look: Any) -> Any:
        """Wait for something true."""

        async def look_on() -> Any:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    with contextlib.suppress(AssertionError, ValueError):
                        if found := look():
                            return found
                    await asyncio.sleep(0.2)

        return asyncio.run(look_on())

    def restore(self, release: Release) -> None:
        """Store what a release had stored, below the API server: with the UIDs of then, which no client can give."""
        now = datetime.now(UTC)
        for moment in MOMENTS:
            for one in release.objects(moment, now):
                meta = {name: value for name, value in one["metadata"].items() if name != "resourceVersion"}
                stored = json.dumps(one | {"metadata": meta})
                key = f"/registry/{_KEYS[one['kind']]}/{NAMESPACE}/{meta['name']}"
                put = {"key": _base64(key), "value": _base64(stored)}
                answer = urllib3.request("POST", f"{self.plane.storage}/v3/kv/put", json=put)
                assert answer.status == 200, answer.data.decode()


def _is_served(definition: Manifest) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="package", params=RELEASES, ids=lambda release: release.name)
def release(request: pytest.FixtureRequest) -> Release:
    """A release that has a record."""
    recorded: Release = request.param
    return recorded


@pytest.fixture(scope="package")
def server(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API server that holds what the release had stored, under its definition."""
    with asyncio.Runner() as runner:
        manager = control_plane(tmp_path_factory.mktemp(release.name))
        plane = runner.run(manager.__aenter__())
        try:
            server = Server(plane, runner)
            server.create_definition(release.definition())
            server.send("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            facts = {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}}
            server.send("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", facts)
            claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
            claims = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
            server.send("POST", claims, {"metadata": {"name": "models"}, "spec": claim})
            server.restore(release)
            yield server
        finally:
            runner.run(manager.__aexit__(None, None, None))


@pytest.fixture(scope="package")
def _before(release: Release, server: Server) -> dict[str, Manifest]:
    """The runs as they are read under their own definition."""
    return {moment: server.get(f"{RUNS}/{moment}") for moment in MOMENTS}


@pytest.fixture(scope="package")
def _published_before(server: Server) -> Manifest:
    """What the API server tells clients of the kind under the release's definition; it takes a moment to do so."""
    document: Manifest = server.until(lambda: (found := server.get(PUBLISHED))["components"]["schemas"] and found)
    return document


@pytest.fixture(scope="package")
def upgraded(server: Server, _before: dict[str, Manifest], _published_before: Manifest) -> Upgraded:
    """The same API server, with today's definition in the place of the release's."""
    return Upgraded(server, _before, _published_before)


class Upgraded:
    """`before` holds the runs as they were read under the release's definition, `published` what was told of it."""

    def __init__(self, server: Server, before: dict[str, Manifest], published: Manifest) -> None:
        self.server, self.before, self.published = server, before, published
        self.definition = server.replace_definition(crd.custom_resource_definition())
