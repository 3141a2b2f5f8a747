"""Runs at once or at a steady rate: how long each takes until its Job exists and its status tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Container, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.control_plane import audit, figures
from benchmarks.control_plane.api import Api, Manifest
from benchmarks.control_plane.contestants import RUNS, Controller
from benchmarks.control_plane.plane import REPOSITORY, Plane
from benchmarks.control_plane.programs import Stopwatch
from benchmarks.control_plane.writes import Write

WORKERS = 32
"""Of a floor, and of whoever creates the runs: as many as the operator has by default."""
_QUIET = 1.0  # seconds without a request: what is written and read after a status belongs to the cost
_LONGEST_SETTLING = 15.0
_STALLED = 90.0  # seconds in which nothing was told: the rest is given up
KINDS = (
    *(
        f"/api/v1/namespaces/{{}}/{kind}"
        for kind in ("persistentvolumeclaims", "configmaps", "services", "pods", "events")
    ),
    "/apis/batch/v1/namespaces/{}/jobs",
)


class Bench:
    """The control plane under load, one namespace for each measurement."""

    def __init__(self, plane: Plane, api: Api) -> None:
        self.plane, self.api, self._namespaces = plane, api, 0

    async def namespace(self, prefix: str) -> str:
        """Create a namespace with the rows that our jobs name."""
        self._namespaces += 1
        name = f"{prefix}-{self._namespaces}"
        await self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        rows = {"metadata": {"name": "minimal-rows"}, "data": {"rows.jsonl": "{}"}}
        await self.api.create(f"/api/v1/namespaces/{name}/configmaps", rows)
        return name

    async def clear(self, namespace: str, kinds: Sequence[str]) -> None:
        """Delete what a measurement has left, so that the next one begins with an empty cluster."""
        for kind in (*kinds, *KINDS):
            await self.api.delete_all(kind.format(namespace))

    async def floor(
        self, name: str, writes: Sequence[Write], count: int, rate: float | None, keep: str | None = None
    ) -> dict[str, Any]:
        """Measure a floor. `keep`: a namespace in which everything stays."""
        namespace = keep or await self.namespace(name.lower().replace(" ", "-"))
        task = self.plane.directory / "floor.json"
        document = {
            "url": self.plane.url,
            "authority": str(self.plane.authority),
            "token": self.plane.tokens["floor"],
            "writes": [asdict(write) for write in writes],
            "namespace": namespace,
            "prefix": "run",
            "count": count,
            "rate": rate,
            "workers": WORKERS,
        }
        task.write_text(json.dumps(document))
        offset, watch = self.audit_size(), Stopwatch([self.plane.apiserver, self.plane.etcd])
        async with self.watched(RUNS.format(namespace), namespace, _look, _look):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.control_plane.floor", str(task),
                stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
            )  # fmt: skip
            printed, _ = await process.communicate()
        if process.returncode:
            raise SystemExit("the floor has failed")
        found = json.loads(printed)
        cpu = watch.cpu_seconds() | {name: found["cpuSeconds"]}
        if keep is None:
            await self.clear(namespace, (RUNS,))
        made = self.made(offset, ("floor",))
        return figures.of_load(name, count, rate, created=found["created"], told=found["told"], cpu=cpu, made=made)

    async def controller(self, controller: Controller, count: int, rate: float | None) -> dict[str, Any]:
        """Measure an operator."""
        namespace = await self.namespace(controller.name)
        async with controller.running() as programs:
            rest = {program.name: program.resident_mb() for program in programs}
            offset, watch = self.audit_size(), Stopwatch([*programs, self.plane.apiserver, self.plane.etcd])
            created, told = await self.runs(controller, namespace, count, rate)
            cpu = watch.cpu_seconds()
            peak = {program.name: program.peak_mb() for program in programs}
        made = self.made(offset, controller.users)
        found = figures.of_load(controller.name, count, rate, created=created, told=told, cpu=cpu, made=made)
        await self.clear(namespace, controller.kinds)
        return found | {"restMB": rest, "peakMB": peak}

    async def runs(
        self, controller: Controller, namespace: str, count: int, rate: float | None
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Create runs and wait until each is told of, or nothing more is; when each was created and told."""
        seen, created = _Seen(controller), dict[str, float]()
        runs = controller.runs.format(namespace)
        async with self.watched(runs, namespace, seen.run, seen.job) as watches:
            await self._create(controller, runs, count, rate, created)
            latest, changed = 0, time.monotonic()
            while len(seen.told) < count and time.monotonic() - changed < _STALLED:
                await asyncio.sleep(0.02)
                for watch in watches:
                    if watch.done():
                        watch.result()
                if seen.events != latest:
                    latest, changed = seen.events, time.monotonic()
            await self._settle()
        return created, seen.told

    @contextlib.asynccontextmanager
    async def watched(
        self, runs: str, namespace: str, run: Callable[[Manifest], None], job: Callable[[Manifest], None]
    ) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        """Somebody watches runs and Jobs meanwhile, as people do, and as is needed to tell when they are there."""
        jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        watches = [
            asyncio.create_task(self.follow(jobs, job, metadata_only=True)),
            asyncio.create_task(self.follow(runs, run)),
        ]
        try:
            yield watches
        finally:
            for watch in watches:
                watch.cancel()

    async def follow(self, collection: str, seen: Callable[[Manifest], None], *, metadata_only: bool = False) -> None:
        """Call `seen` with every object of a collection, whenever it changes."""
        async for event in self.api.watch(collection, metadata_only=metadata_only):
            if event["type"] in ("ADDED", "MODIFIED"):
                seen(event["object"])

    def audit_size(self) -> int:
        """Bytes of the audit log so far."""
        return self.plane.audit_log.stat().st_size

    async def _settle(self) -> None:
        deadline, size = time.monotonic() + _LONGEST_SETTLING, -1
        while self.audit_size() != size and time.monotonic() < deadline:
            size = self.audit_size()
            await asyncio.sleep(_QUIET)

    async def _create(
        self, controller: Controller, runs: str, count: int, rate: float | None, created: dict[str, float]
    ) -> None:
        manifests = [controller.manifest(f"run-{number}") for number in range(count)]
        free = asyncio.Semaphore(WORKERS)
        began = time.monotonic()

        async def create(number: int) -> None:
            if rate:
                due = began + number / rate
                await asyncio.sleep(due - time.monotonic())
            async with free:
                # A run begins when it is due, whether or not the API server has time for it.
                created[f"run-{number}"] = due if rate else time.monotonic()
                await self.api.create(runs, manifests[number])

        await asyncio.gather(*(create(number) for number in range(count)))

    def made(self, offset: int, users: Container[str]) -> list[audit.Request]:
        """The requests of some users since the log had that size."""
        return [request for request in audit.read(self.plane.audit_log, offset) if request.user in users]


def _look(_: Manifest) -> None:
    """Have read it."""


class _Seen:
    """When a watch first told of a run's Job and of the status that tells of it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._jobs: set[str] = set()
        self._statuses: set[str] = set()
        self.told: dict[str, float] = {}
        self.events = 0

    def job(self, job: Manifest) -> None:
        """A Job exists."""
        self._jobs.add(job["metadata"]["name"])
        # Both kinds of Jobs' names begin with their run's, which holds one hyphen.
        self._both("-".join(job["metadata"]["name"].split("-")[:2]))

    def run(self, run: Manifest) -> None:
        """A run has changed."""
        name = run["metadata"]["name"]
        if name not in self._statuses and self._controller.told(run):
            self._statuses.add(name)
            self._both(name)

    def _both(self, name: str) -> None:
        self.events += 1
        if name not in self.told and name in self._statuses and self._controller.job(name) in self._jobs:
            self.told[name] = time.monotonic()
