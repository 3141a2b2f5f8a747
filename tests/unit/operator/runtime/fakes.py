"""A small Kubernetes in memory: what the operator asks for, and faults on demand."""

import asyncio
import copy
import functools
import itertools
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

from tests.faults.json_patch import patched

from qwensft_operator.runtime.clock import ServerClock
from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.kinds import KINDS, Key, Kind
from qwensft_operator.runtime.kube import (
    AlreadyExistsError,
    ConflictError,
    Kube,
    Manifest,
    NotFoundError,
    Patch,
    Resource,
)
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.observe import Observer
from qwensft_operator.runtime.reader import Reader
from qwensft_operator.runtime.scrape import Scraper
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.workloads import Workloads

CREATED = "2026-01-01T00:00:00Z"


class FakeKube(Kube):
    """Stores objects by resource, namespace and name. `refuse[verb, plural]` makes a call fail.

    A `store` is told of everything at once, as by watches without any delay.
    """

    def __init__(self) -> None:
        self.store: Store | None = None
        self.on_write = lambda *_: None
        self.clock = ServerClock()
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.refuse: dict[tuple[str, str], Exception] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.document: Manifest = {}
        self._versions = itertools.count(1)

    def put(self, resource: Resource, namespace: str, manifest: Manifest) -> Manifest:
        """Store an object as somebody else would."""
        stored = copy.deepcopy(manifest)
        version = str(next(self._versions))
        stored["metadata"] = {"namespace": namespace, "uid": f"uid-{version}", "creationTimestamp": CREATED} | stored[
            "metadata"
        ]
        stored["metadata"]["resourceVersion"] = version
        self.objects[resource.plural, namespace, stored["metadata"]["name"]] = stored
        self._tell(resource, stored)
        return copy.deepcopy(stored)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object as somebody else would."""
        gone = self.objects.pop((resource.plural, namespace, name))
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(resource, gone, deleted=True)

    def _tell(self, resource: Resource, manifest: Manifest, *, deleted: bool = False) -> None:
        kind = KINDS.get(resource)
        if self.store is not None and kind is not None and kind.is_watched(manifest):
            tell = self.store.deleted if deleted else self.store.observed
            tell(kind, copy.deepcopy(manifest))

    def named(self, resource: Resource) -> set[str]:
        """Names of all stored objects of a type."""
        return {name for plural, _, name in self.objects if plural == resource.plural}

    def _called(self, verb: str, plural: str, name: str) -> None:
        self.calls.append((verb, plural, name))
        if error := self.refuse.get((verb, plural)):
            raise error

    def _stored(self, resource: Resource, namespace: str, name: str) -> Manifest:
        try:
            return self.objects[resource.plural, namespace, name]
        except KeyError:
            raise NotFoundError(404, "NotFound", f"{resource.plural} {name} not found") from None

    async def get(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> Manifest:
        self._called("get", "/".join(filter(None, (resource.plural, subresource))), name)
        return copy.deepcopy(self._stored(resource, namespace, name))

    async def published(self) -> Manifest:
        self._called("get", "openapi", "")
        return self.document

    async def get_metadata(self, resource: Resource, namespace: str, name: str) -> Manifest:
        self._called("get", resource.plural, name)
        return {"metadata": copy.deepcopy(self._stored(resource, namespace, name)["metadata"])}

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | Patch | None = None,
        content_type: str = "",
        accept: str = "",
    ) -> Manifest:
        """Answer a list, in one page, as the API server does."""
        assert (method, body) == ("GET", None), "everything but a list has a method of its own here"
        *scope, plural = path.split("/")
        namespace = scope[scope.index("namespaces") + 1] if "namespaces" in scope else ""
        query, metadata_only = query or {}, "as=PartialObjectMetadataList" in accept
        labels, fields = query["labelSelector"], query["fieldSelector"]
        self._called("list", plural, labels or fields)
        found = [
            {"metadata": copy.deepcopy(manifest["metadata"])} if metadata_only else copy.deepcopy(manifest)
            for (kind, where, _), manifest in self.objects.items()
            if kind == plural
            and namespace in ("", where)
            and _selects(labels, (manifest["metadata"].get("labels") or {}).get)
            and _selects(fields, functools.partial(_field, manifest))
        ]
        return {"metadata": {"resourceVersion": "1"}, "items": None if metadata_only and not found else found}

    async def create(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        name = body["metadata"]["name"]
        self._called("create", resource.plural, name)
        if (resource.plural, namespace, name) in self.objects:
            raise AlreadyExistsError(409, "AlreadyExists", f"{resource.plural} {name} already exists")
        return self._answered(resource, self.put(resource, namespace, body))

    async def replace(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        self._called("replace", resource.plural, body["metadata"]["name"])
        stored = self._stored(resource, namespace, body["metadata"]["name"])
        self._same_version(stored, body["metadata"])
        return self._answered(resource, self.put(resource, namespace, body))

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        self._called(f"patch/{subresource}" if subresource else "patch", resource.plural, name)
        stored = self._stored(resource, namespace, name)
        self._same_version(stored, patch.get("metadata", {}))
        return self._answered(resource, self.put(resource, namespace, apply_merge_patch(stored, patch)))

    async def patch(self, resource: Resource, namespace: str, name: str, operations: Patch) -> Manifest:
        self._called("patch", resource.plural, name)
        changed = patched(self._stored(resource, namespace, name), operations)
        return self._answered(resource, self.put(resource, namespace, changed))

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, propagation: Literal["Foreground"]
    ) -> None:
        self._called("delete", resource.plural, name)
        if self._stored(resource, namespace, name)["metadata"]["uid"] != uid:
            raise ConflictError(409, "Conflict", "the UID in the precondition does not match")
        self.remove(resource, namespace, name)

    def _answered(self, resource: Resource, manifest: Manifest) -> Manifest:
        self.on_write(resource, manifest)
        return manifest

    def _same_version(self, stored: Manifest, given: Manifest) -> None:
        if given.get("resourceVersion", stored["metadata"]["resourceVersion"]) != stored["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "the object has been modified")


class Ear:
    """Hears of changes of a store, and keeps them."""

    def __init__(self) -> None:
        self.heard: list[tuple[Key, str]] = []

    def changed(self, key: Key, kind: Kind, version: int) -> None:
        self.heard.append((key, kind.resource.plural))

    def written(self, key: Key, kind: Kind, version: int) -> None:
        """Whether a change was our own is not asked here."""


def make_store(kube: FakeKube) -> Store:
    """A store that hears at once of all that is put into `kube` from now on."""
    kube.store = Store(Ear())
    kube.on_write = kube.store.wrote
    return kube.store


def make_observer(
    kube: FakeKube,
    store: Store,
    *,
    scraper: Scraper | None = None,
    watching: bool = True,
    nodes: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Observer:
    """An observer that asks the store, or with `watching` false the API server alone."""
    reader = Reader(kube, store, lambda *_: watching)
    explanations, workloads = Explanations(kube, clock), Workloads(kube, clock)
    return Observer(reader, explanations, scraper or Scraper(), Nodes(kube, enabled=nodes), workloads)


def _selects(selector: str, value_of: Callable[[str], Any]) -> bool:
    """Whether all parts of a selector hold: `key=value`, `key!=value`, `key in (a,b)`, or `key` alone for any value."""
    parts = re.findall(r"([^,!= ]+)(!=| in |=)?(\([^)]*\)|[^,]*)", selector)
    return all(_holds(operator, value_of(key), value) for key, operator, value in parts)


def _holds(operator: str, found: Any, value: str) -> bool:
    match operator:
        case "!=":
            return bool(found != value)
        case " in ":
            return found in value.strip("()").split(",")
        case "=":
            return bool(found == value)
    return found is not None


def _field(manifest: Manifest, path: str) -> Any:
    return functools.reduce(lambda value, name: value.get(name, {}), path.split("."), manifest) or None


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(result.get(key), value)
    return result


def job_manifest(name: str = "demo", uid: str = "11111111-aaaa", **spec: Any) -> Manifest:
    """A QwenSFTJob as the API server returns it."""
    return {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": name, "namespace": "team", "uid": uid, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "model": {"name": "Qwen/Qwen3-0.6B"},
            "datasets": [
                {"name": "facts", "format": "alpaca", "source": {"configMap": {"name": "facts", "key": "f.json"}}}
            ],
            "storage": {"volume": {"claimTemplate": {"size": "1Gi"}}},
            **spec,
        },
    }


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        times = [handle.when() for handle in scheduled if not handle.cancelled()]
        if not ready and times:
            self._now = max(self._now, min(times))
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an asynchronous test, which does no real I/O, in no time and with exact times."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    return run
