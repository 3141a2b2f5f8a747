"""An API server over HTTP with lists in parts, watches with bookmarks, and faults on demand."""

import asyncio
import copy
import json
from typing import Any

from aiohttp import web

from qwensft_operator.runtime.kube import Manifest, Resource

LABELS = {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": "demo"}


def _served(**kinds: str) -> Manifest:
    verbs = ["get", "list", "watch", "patch"]
    return {
        "resources": [
            {"name": name, "kind": kind, "singularName": kind.lower(), "namespaced": True, "verbs": verbs}
            for name, kind in kinds.items()
        ]
    }


def _group(name: str, version: str) -> Manifest:
    return {"name": name, "versions": [{"version": version}], "preferredVersion": {"version": version}}


# kopf asks at its start what there is.
DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": _served(pods="Pod", namespaces="Namespace"),
    "/apis": {"groups": [_group("apiextensions.k8s.io", "v1")]},
    "/apis/apiextensions.k8s.io/v1": _served(customresourcedefinitions="CustomResourceDefinition"),
}


class ApiServer:
    """Objects by collection (plural) and namespace, as the API server lists and watches them.

    `broken` maps paths to the status with which they are refused, or to bytes that their watches send.
    """

    def __init__(self) -> None:
        self.version, self.oldest = 100, 0
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.broken: dict[str, int | bytes] = {}
        self.requests: list[tuple[str, str, str]] = []  # list or watch, path, what is accepted
        self._log: dict[str, list[tuple[int, str, Manifest]]] = {}
        self._open: dict[asyncio.Event, str] = {}
        self._changed = asyncio.Condition()
        self._backup = 0, self.objects

    # What happens in the cluster

    async def put(self, resource: Resource, name: str, namespace: str = "team", **fields: Any) -> Manifest:
        """Create or change an object."""
        key = resource.plural, namespace, name
        type_ = "MODIFIED" if key in self.objects else "ADDED"
        self.version += 1
        metadata = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "generation": 1}
        metadata |= {"labels": LABELS} | fields.pop("metadata", {}) | {"resourceVersion": str(self.version)}
        self.objects[key] = {"metadata": metadata, "spec": {}, **fields}
        await self._record(resource, type_, self.objects[key])
        return self.objects[key]

    async def delete(self, resource: Resource, name: str, namespace: str = "team") -> None:
        """Delete an object."""
        gone = copy.deepcopy(self.objects.pop((resource.plural, namespace, name)))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self._record(resource, "DELETED", gone)

    async def forget_history(self) -> None:
        """Compact: nobody can go on from an older version, and what has happened since its last event is not told."""
        self.version += 1
        self._log.clear()
        self.oldest = self.version
        await self.end_watches()

    def back_up(self) -> None:
        """Keep what there is, as a snapshot of etcd does."""
        self._backup = self.version, copy.deepcopy(self.objects)

    async def restore(self) -> None:
        """Go back to what was kept: versions begin there again, and nothing that has happened since has."""
        self.version, self.objects = self._backup
        self._log.clear()
        await self.end_watches()

    async def end_watches(self, path: str = "") -> None:
        """End the watches of a collection, or all."""
        for event in [event for event, of in self._open.items() if path in ("", of)]:
            event.set()
        async with self._changed:
            self._changed.notify_all()

    def watched(self) -> set[str]:
        """The paths of which a watch is open."""
        return set(self._open.values())

    async def _record(self, resource: Resource, type_: str, manifest: Manifest) -> None:
        self._log.setdefault(resource.plural, []).append((self.version, type_, copy.deepcopy(manifest)))
        async with self._changed:
            self._changed.notify_all()

    # What it answers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        fault = self.broken.get(request.path)
        if isinstance(fault, int):
            body = {"kind": "Status", "code": fault, "reason": "Broken", "message": "broken by the test"}
            return web.json_response(body, status=fault)
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        watch = request.query.get("watch") == "true"
        self.requests.append(("watch" if watch else "list", request.path, request.headers["Accept"]))
        return await (self._watch(request) if watch else self._list(request))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        first, limit = int(request.query.get("continue") or 0), int(request.query["limit"])
        found = [m for _, m in sorted(self.objects.items()) if self._is_of(request, m, _[0])]
        more = str(first + limit) if first + limit < len(found) else ""
        items = [_as_accepted(request, manifest) for manifest in found[first : first + limit]]
        return web.json_response(
            {"metadata": {"resourceVersion": str(self.version), "continue": more}, "items": items or None}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        seen, plural = int(request.query["resourceVersion"]), request.path.rsplit("/", 1)[1]
        if seen < self.oldest:
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
            await response.write(json.dumps(gone).encode() + b"\n")
            return response
        end = asyncio.Event()
        self._open[end] = request.path
        try:
            bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(seen)}}}
            fault = self.broken.get(request.path)
            if isinstance(fault, bytes) or seen <= self.version:  # of a version that is to come not even bookmarks tell
                await response.write(fault if isinstance(fault, bytes) else json.dumps(bookmark).encode() + b"\n")
            while not end.is_set():
                for version, type_, manifest in list(self._log.get(plural, ())):
                    if version > seen and self._is_of(request, manifest, plural):
                        line = json.dumps({"type": type_, "object": _as_accepted(request, manifest)}).encode()
                        middle = len(line) // 2  # a line comes in more than one piece
                        await response.write(line[:middle])
                        await response.write(line[middle:] + b"\n")
                        seen = version
                async with self._changed:
                    if not end.is_set():
                        await self._changed.wait()
        finally:
            self._open.pop(end, None)
        return response

    @staticmethod
    def _is_of(request: web.Request, manifest: Manifest, plural: str) -> bool:
        *scope, asked = request.path.split("/")
        namespace = scope[scope.index("namespaces") + 1] if "namespaces" in scope else ""
        labels = manifest["metadata"].get("labels", {})
        selected = not request.query.get("labelSelector") or LABELS.keys() <= labels.keys()
        return asked == plural and namespace in ("", manifest["metadata"]["namespace"]) and selected


def _as_accepted(request: web.Request, manifest: Manifest) -> Manifest:
    if "as=PartialObjectMetadata" not in request.headers["Accept"]:
        return manifest
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": manifest["metadata"]}
