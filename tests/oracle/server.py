"""The oracle: etcd and an API server of its own, as for the benchmark of the control path, and a plain client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from benchmarks.control_plane.plane import BENCH, control_plane

from qwensft.api import crd

from .making import COLLECTIONS

Manifest = dict[str, Any]

NAMESPACE, UNRESTRICTED = "n" * 63, "unrestricted"
"""The first has the longest name that there is and enforces the Pod Security Standard restricted, the other none."""
_JOBS = "apis/qwensft.io/v1alpha1/namespaces/{}/qwensftjobs"
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Refusal:
    """Why the API server takes something for wrong: field -> what is wrong, and all of it in one text."""

    causes: dict[str, str]
    text: str


class Server:
    """Asks the API server; nothing of what is tried is stored."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(ca_certs=str(authority), retries=False)
        self._taken: set[str] = set()

    def job(self, document: Manifest) -> Manifest | Refusal:
        """Try to create a QwenSFTJob; return it as it would be stored."""
        return self._send("POST", f"{_JOBS.format(NAMESPACE)}?dryRun=All&fieldValidation=Strict", document)

    def stored(self, document: Manifest) -> Manifest:
        """Create a QwenSFTJob for good."""
        return _taken(self._send("POST", f"{_JOBS.format(NAMESPACE)}?fieldValidation=Strict", document))

    def edited(self, stored: Manifest, spec: Manifest) -> Manifest | Refusal:
        """Try to replace the spec of a stored QwenSFTJob."""
        path = f"{_JOBS.format(NAMESPACE)}/{stored['metadata']['name']}?dryRun=All&fieldValidation=Strict"
        return self._send("PUT", path, stored | {"spec": spec})

    def read(self, name: str) -> Manifest:
        """A stored QwenSFTJob."""
        return _taken(self._send("GET", f"{_JOBS.format(NAMESPACE)}/{name}"))

    def put_status(self, name: str, status: Manifest) -> None:
        """Write the status of a stored QwenSFTJob."""
        path = f"{_JOBS.format(NAMESPACE)}/{name}/status?fieldValidation=Strict"
        _taken(self._send("PATCH", path, {"status": status}, _MERGE_PATCH))

    def refusal(self, manifest: Manifest, namespace: str) -> Refusal | None:
        """Try to create what an operator, or a controller for it, makes; None if the API server takes it."""
        body = json.dumps(manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}, sort_keys=True)
        if body in self._taken:
            return None
        path = f"{COLLECTIONS[manifest['kind']].format(namespace)}?dryRun=All&fieldValidation=Strict"
        answer = self._send("POST", path, body)
        if isinstance(answer, Refusal):
            return answer
        self._taken.add(body)
        return None

    def create(self, path: str, body: Manifest) -> None:
        """Create something that the tests stand on."""
        _taken(self._send("POST", path, body))

    def _send(
        self, method: str, path: str, body: Manifest | str | None = None, kind: str = "application/json"
    ) -> Manifest | Refusal:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        answer = self._pool.request(
            method, f"{self._url}/{path}", body=text, headers={**self._headers, "Content-Type": kind}
        )
        content: Manifest = json.loads(answer.data)
        if answer.status < 300:
            return content
        # What has the wrong form is refused in these ways; anything else is trouble of the server's.
        assert answer.status in (400, 403, 413, 422), content
        causes = (content.get("details") or {}).get("causes") or ()
        return Refusal({cause.get("field", ""): cause.get("message", "") for cause in causes}, content["message"])


def _taken(answer: Manifest | Refusal) -> Manifest:
    assert not isinstance(answer, Refusal), answer
    return answer


@contextlib.contextmanager
def oracle(directory: Path) -> Iterator[Server]:
    """An API server with the CustomResourceDefinition as the models give it now, below an empty directory."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as running:
        plane_context = control_plane(directory)
        plane = runner.run(plane_context.__aenter__())
        running.callback(lambda: runner.run(plane_context.__aexit__(None, None, None)))
        server = Server(plane.url, plane.authority, plane.tokens[BENCH])
        server.create("apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd.custom_resource_definition())
        enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name, labels in ((NAMESPACE, enforced), (UNRESTRICTED, {})):
            server.create("api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        runner.run(_served(plane.url, server))
        yield server


async def _served(url: str, server: Server) -> None:
    """Wait until the definition is served."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(AssertionError, json.JSONDecodeError):
                server._send("GET", _JOBS.format(NAMESPACE))
                return
            await asyncio.sleep(0.2)
