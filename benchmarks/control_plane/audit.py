"""What the API server's audit log says of who asked for what. Pure but for `read`."""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

READS = ("get", "list")
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True, slots=True)
class Request:
    """One request that has been answered, or a watch that has been opened.

    Attributes:
        at: When it was answered.
        resource: Plural, with the subresource behind a slash: `jobs/status`.
        body: What was sent; only of the user whose bodies are logged.
    """

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    uri: str
    code: int
    at: datetime
    body: dict[str, Any] | None


def read(log: Path, offset: int = 0) -> list[Request]:
    """The requests in a log, from a byte on that begins a line."""
    with log.open("rb") as stream:
        stream.seek(offset)
        return list(requests(line.decode() for line in stream))


def requests(lines: Iterable[str]) -> Iterable[Request]:
    """Parse lines of the log; what is about no resource is left out."""
    for line in lines:
        entry = json.loads(line)
        verb, reference = entry["verb"], entry.get("objectRef") or {}
        # A watch is told twice, when it opens and when it ends.
        if (verb == "watch") != (entry["stage"] == "ResponseStarted"):
            continue
        resource = reference.get("resource", "")
        if not resource:
            continue
        subresource = reference.get("subresource", "")
        yield Request(
            user=entry["user"]["username"],
            verb=verb,
            resource=f"{resource}/{subresource}" if subresource else resource,
            namespace=reference.get("namespace", ""),
            name=reference.get("name", ""),
            uri=entry["requestURI"],
            code=entry["responseStatus"].get("code", 0),
            at=datetime.fromisoformat(entry["stageTimestamp"]),
            body=entry.get("requestObject"),
        )


def split(found: Iterable[Request], *, at: Sequence[datetime]) -> list[list[Request]]:
    """The requests before the first time, between it and the second, and so on."""
    parts: list[list[Request]] = [[] for _ in range(len(at) + 1)]
    for request in found:
        parts[bisect.bisect(at, request.at)].append(request)
    return parts


def by_verb(found: Iterable[Request]) -> dict[str, int]:
    """How many requests of each verb and resource: {"get persistentvolumeclaims": 4}."""
    counted = Counter(f"{request.verb} {request.resource}" for request in found)
    return dict(sorted(counted.items()))


def count(found: Iterable[Request], verbs: Iterable[str]) -> int:
    """How many requests have one of these verbs."""
    wanted = set(verbs)
    return sum(request.verb in wanted for request in found)
