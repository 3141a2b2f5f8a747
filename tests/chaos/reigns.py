"""Which operator led when, and whether each write was made by the one that led.

The order is etcd's: all objects of a cluster share one counter, their resourceVersion, so a write is before or after a
change of the Lease, whatever clocks say. Watches tell of every version; nobody asks twice.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from quickstart.setup import RELEASE, SYSTEM_NAMESPACE
from quickstart.shell import Kubectl

from qwensft_operator.runtime.kube import FIELD_MANAGER, Manifest

from .witness import wait_until


@dataclass(frozen=True)
class Write:
    """A write that only an operator makes. `by`: who says to have made it, None where the object does not tell."""

    version: int
    what: str
    by: str | None = None


@dataclass(frozen=True)
class Reign:
    """The time in which one held the Lease; `until` None: it still does."""

    leader: str
    since: int
    until: int | None = None

    def covers(self, write: Write) -> bool:
        """Whether this leader may have made the write."""
        during = self.since < write.version and (self.until is None or write.version < self.until)
        return during and write.by in (None, self.leader)


def reigns(leases: Iterable[Manifest], deaths: dict[str, int]) -> list[Reign]:
    """Return who led when.

    Args:
        leases: Versions of the Lease, oldest first.
        deaths: The resourceVersion by which a leader was dead, by its name: its Lease runs on for a while.
    """
    found: list[Reign] = []
    for lease in leases:
        holder, version = str(lease["spec"].get("holderIdentity") or ""), int(lease["metadata"]["resourceVersion"])
        if found and found[-1].until is None:
            if found[-1].leader == holder:
                continue
            found[-1] = replace(found[-1], until=version)
        if holder:
            found.append(Reign(holder, version))
    return [replace(one, until=deaths.get(one.leader, one.until)) for one in found]


def writes(kind: str, events: Iterable[Manifest]) -> Iterator[Write]:
    """Yield what an operator has written, of a watch's events: statuses of runs, Jobs that were made, Events."""
    for event in events:
        known, change = event["object"], event["type"]
        version = int(known["metadata"].get("resourceVersion") or 0)
        what = f"{change} {kind} {known['metadata'].get('name')}"
        if kind == "events" and known.get("reportingComponent") == FIELD_MANAGER and change != "DELETED":
            yield Write(version, what, known["reportingInstance"])
        elif (kind, change) in {("qwensftjobs", "MODIFIED"), ("jobs", "ADDED")}:
            yield Write(version, what)


class Reigns:
    """Watches the Lease and what operators write in a namespace, from `__enter__` until `check`."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._paths = {
            "qwensftjobs": f"/apis/qwensft.io/v1alpha1/namespaces/{namespace}/qwensftjobs",
            "jobs": f"/apis/batch/v1/namespaces/{namespace}/jobs",
            "events": f"/api/v1/namespaces/{namespace}/events",
        }
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases"
        self._deaths: dict[str, int] = {}

    def __enter__(self) -> Reigns:
        self._first = self._get(f"{self._leases}/{RELEASE}")
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._told = {kind: self._follow(stack, kind, path) for kind, path in self._paths.items()}
            of_operator = {"fieldSelector": f"metadata.name={RELEASE}"}
            self._told["leases"] = self._follow(stack, "leases", self._leases, **of_operator)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def died(self, leader: str) -> None:
        """A leader has just been killed: whatever is written from now on, until another leads, is wrong."""
        self._deaths[leader] = self._version(self._leases)

    def check(self) -> list[Reign]:
        """Every write was made in somebody's reign, by that one; return the reigns, of which there were several."""
        last = self._version(self._leases)
        wait_until("the watch has told of all", lambda: self._latest("leases") >= last, 30)
        found = reigns([self._first, *(event["object"] for event in self._events("leases"))], self._deaths)
        made = [write for kind in self._paths for write in writes(kind, self._events(kind))]
        for kind in self._paths:
            assert any(f" {kind} " in write.what for write in made), f"no writes of {kind} were seen"
        usurped = [write for write in made if not any(reign.covers(write) for reign in found)]
        assert not usurped, f"written by one that did not lead: {usurped}; {found}"
        for reign in found:
            assert any(reign.covers(write) for write in made), f"{reign} did nothing, so that nothing is shown by it"
        return found

    def _get(self, path: str) -> Manifest:
        return dict(json.loads(self._kubectl("get", "--raw", path)))

    def _version(self, path: str) -> int:
        return int(self._get(f"{path}?limit=1")["metadata"]["resourceVersion"])

    def _follow(self, stack: ExitStack, kind: str, path: str, **query: str) -> Path:
        """Have a watch write its events, a line each, into a file until the end; return that file."""
        query |= {"watch": "true", "resourceVersion": str(self._version(path)), "timeoutSeconds": "3600"}
        command, file = ["kubectl", "get", "--raw", f"{path}?{urlencode(query)}"], self._folder / kind
        with file.open("wb") as written:
            watch = subprocess.Popen(command, env=self._kubectl.env, stdout=written, stderr=subprocess.DEVNULL)
        stack.callback(watch.wait, 10)
        stack.callback(watch.kill)
        return file

    def _events(self, kind: str) -> list[dict[str, Any]]:
        told = self._told[kind].read_text().splitlines(keepends=True)
        lines = [json.loads(line) for line in told if line.endswith("\n")]
        broken = [line for line in lines if line["type"] == "ERROR"]
        assert not broken, f"the watch of {kind} has ended: {broken}"
        return lines

    def _latest(self, kind: str) -> int:
        return max((int(event["object"]["metadata"]["resourceVersion"]) for event in self._events(kind)), default=0)
