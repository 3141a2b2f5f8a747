"""The writes that the operator makes for one run, as a recipe to make them again for any other. Pure.

So the floor writes what ours writes, in the same order, and stays fair when ours changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.control_plane.audit import Request

NAME, NAMESPACE, UID, VERSION = "@name@", "@namespace@", "@uid@", "@version@"
"""What stands in a recipe for the run's name, namespace, UID and newest resourceVersion."""
_METHODS = {"create": "POST", "patch": "PATCH"}


@dataclass(frozen=True)
class Write:
    """A request: method, path and JSON body, with placeholders in the last two."""

    method: str
    path: str
    body: str
    of_run: bool
    """Whether it writes the run itself: its answer has the run's newest resourceVersion."""

    def filled(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Path and body of a certain run."""
        path, body = self.path, self.body
        for placeholder, value in values.items():
            path, body = path.replace(placeholder, value), body.replace(placeholder, value)
        return path, body


def recipe(found: Iterable[Request], run: Mapping[str, Any], collection: str) -> list[Write]:
    """The run's own creation, and after it all that was written for it, in that order.

    Args:
        found: The requests, with their bodies.
        run: The run as it was created: a manifest with name, namespace and UID of which no other text holds a part.
        collection: Path of the runs' collection in its namespace.

    Raises:
        ValueError: A write was made by a verb that a recipe cannot repeat.
    """
    meta = run["metadata"]
    created = {key: value for key, value in run.items() if key not in ("metadata", "status")}
    created["metadata"] = {"name": meta["name"]}
    writes = [_write("POST", collection, created, meta, of_run=True)]
    for request in found:
        if request.verb in ("get", "list", "watch") or request.code >= 300:
            continue
        if request.verb not in _METHODS or request.body is None:
            raise ValueError(f"cannot repeat: {request.verb} {request.uri}")
        body, of_run = request.body, request.resource == "qwensftjobs/status"
        if of_run and "resourceVersion" in body.get("metadata", {}):
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": VERSION}}
        parts = urlsplit(request.uri)
        uri = f"{parts.path}?{parts.query}" if parts.query else parts.path
        writes.append(_write(_METHODS[request.verb], uri, body, meta, of_run=of_run))
    return writes


def objects_only(writes: Iterable[Write]) -> list[Write]:
    """Claim, ConfigMap and Job alone: what no operator could leave out."""
    kinds = ("/persistentvolumeclaims", "/configmaps", "/jobs")
    return [write for write in writes if write.method == "POST" and write.path.partition("?")[0].endswith(kinds)]


def _write(method: str, path: str, body: Mapping[str, Any], meta: Mapping[str, str], *, of_run: bool) -> Write:
    text = json.dumps(body)
    for value, placeholder in ((meta["uid"], UID), (meta["name"], NAME), (meta["namespace"], NAMESPACE)):
        path, text = path.replace(value, placeholder), text.replace(value, placeholder)
    return Write(method, path, text, of_run)
