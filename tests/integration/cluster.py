"""What the tests say: apply a run, play the kubelet for its pods, wait for what the operator makes of it.

ADR 0045 says why.
"""

import asyncio
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from qwensft_operator.runtime.kube import EVENTS, JOBS, PODS, QWENSFTJOBS, Kube, Manifest, NotFoundError, Resource

T = TypeVar("T")
PATIENCE = 120.0  # seconds; what is waited for comes within one or two on an idle machine


class Operator:
    """An operator process."""

    all: ClassVar[list["subprocess.Popen[bytes]"]] = []

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self._log = process, log
        self.all.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None:
            print(self.log())  # noqa: T201 - pytest shows it beside the failure
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """End it as a lost node would: without a chance to say goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """End it as the kubelet does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def probe(self, path: str) -> int:
        """Return the status of a probe, 0 while it does not listen."""
        port = re.search(r"/metrics on port (\d+)", self.log())
        if port is None:
            return 0
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}{path}", timeout=PATIENCE) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.probe("/readyz") != 200:
            assert self.process.poll() is None, f"the operator has ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"the operator is not ready:\n{self.log()}"
            time.sleep(0.1)


class Cluster:
    """One namespace of the cluster under test."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        operator: Operator | None = None,
        start_operator: Callable[..., Operator] | None = None,
    ) -> None:
        self.kube, self.namespace = kube, namespace
        self._operator, self._start_operator = operator, start_operator

    def start_operator(self, **settings: str) -> Operator:
        """Start an operator for this namespace alone."""
        assert self._start_operator is not None
        return self._start_operator(**{"QWENSFT_LEADER_ELECTION": "false", **settings})

    async def apply(self, name: str = "demo", **spec: Any) -> Manifest:
        """Create a QwenSFTJob whose pods no node takes."""
        body = {
            "apiVersion": "qwensft.io/v1alpha1",
            "kind": "QwenSFTJob",
            "metadata": {"name": name},
            "spec": {
                "model": {"name": "Qwen/Qwen3-0.6B", "source": {"volume": {"claimName": "models", "path": "qwen3"}}},
                "datasets": [
                    {"name": "facts", "format": "alpaca", "source": {"configMap": {"name": "facts", "key": "f.json"}}}
                ],
                "distribution": {"nodes": 2},
                "worker": {"accelerator": {"count": 0}, "nodeSelector": {"qwensft.io/no-such-node": "true"}},
                "storage": {"volume": {"claimTemplate": {"size": "1Mi"}}},
                **spec,
            },
        }
        return await self.kube.create(QWENSFTJOBS, self.namespace, body)

    async def edit(self, patch: Manifest, name: str = "demo") -> None:
        await self.kube.merge(QWENSFTJOBS, self.namespace, name, patch)

    async def delete(self, resource: Resource, name: str, *options: str) -> None:
        """Delete an object as a person would, with options of kubectl."""
        plural = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        command = ["kubectl", "-n", self.namespace, "delete", plural, name, "--wait=false", *options]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)

    async def get(self, resource: Resource, name: str) -> Manifest | None:
        try:
            return await self.kube.get(resource, self.namespace, name)
        except NotFoundError:
            return None

    async def exists(self, resource: Resource, name: str) -> Manifest:
        """Wait until the object exists."""
        return await self.until(lambda: self.get(resource, name), f"{resource.plural} {name} exists")

    async def gone(self, resource: Resource, name: str) -> None:
        """Wait until the object does not exist."""

        async def absent() -> bool:
            return await self.get(resource, name) is None

        await self.until(absent, f"{resource.plural} {name} is gone")

    async def replaced(self, resource: Resource, before: Manifest) -> None:
        """Wait until another object has the name."""

        async def is_another() -> bool:
            now = await self.get(resource, before["metadata"]["name"])
            return now is not None and now["metadata"]["uid"] != before["metadata"]["uid"]

        await self.until(is_another, f"{resource.plural} {before['metadata']['name']} is back")

    async def jobs(self) -> set[str]:
        return {job["metadata"]["name"] for job in await self.kube.list(JOBS, self.namespace)}

    async def status(self) -> Manifest:
        manifest = await self.kube.get(QWENSFTJOBS, self.namespace, "demo")
        return dict(manifest.get("status") or {})

    async def reaches(self, **wanted: Any) -> Manifest:
        """Wait until the status has these values: `phase`, `reason` (of Succeeded), or any other field."""

        async def agrees() -> Manifest | None:
            status = await self.status()
            known = {**status, "reason": condition(status, "Succeeded").get("reason")}
            return status if all(known.get(key) == value for key, value in wanted.items()) else None

        return await self.until(agrees, f"{wanted}")

    async def pods(self, job: str, count: int = 1) -> list[Manifest]:
        """Wait for the pods of a Job, sorted by completion index."""

        async def found() -> list[Manifest] | None:
            selector = f"batch.kubernetes.io/job-name={job}"
            pods = await self.kube.list(PODS, self.namespace, label_selector=selector)
            live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
            return live if len(live) == count else None

        pods = await self.until(found, f"{count} pods of {job}")
        return sorted(pods, key=_index)

    async def no_pods(self, job: str) -> None:
        """Wait until a Job has no pods."""

        async def none() -> bool:
            return not await self.kube.list(PODS, self.namespace, label_selector=f"batch.kubernetes.io/job-name={job}")

        await self.until(none, f"{job} has no pods")

    async def run_pods(self, job: str, count: int = 1) -> None:
        """Have all pods of a Job run and be ready."""
        for pod in await self.pods(job, count):
            state = {"running": {"startedAt": _now()}}
            await self._report(pod, "Running", state, [{"type": "Ready", "status": "True"}])

    async def end_pods(self, job: str, count: int = 1, *, code: int = 0, report: Manifest | None = None) -> None:
        """Have the first pod of a Job end with that exit code and termination message, and the others like it."""
        for pod in await self.pods(job, count):
            index = _index(pod)
            outcome = {"outcome": "Succeeded" if code == 0 else "Failed", "rank": index}
            terminated = {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                "startedAt": _now(),
                "finishedAt": _now(),
                "message": json.dumps(outcome | (report or {}) if index == 0 else outcome),
            }
            await self._report(pod, "Succeeded" if code == 0 else "Failed", {"terminated": terminated}, [])

    async def events(self) -> list[tuple[str, str]]:
        """Type and reason of the events about the run."""
        selector = "involvedObject.kind=QwenSFTJob,involvedObject.name=demo"
        events = await self.kube.list(EVENTS, self.namespace, field_selector=selector)
        return [(event["type"], event["reason"]) for event in events]

    async def told(self, *wanted: tuple[str, str]) -> list[tuple[str, str]]:
        """Wait until there are these events, which are written after the status; return all."""

        async def all_there() -> list[tuple[str, str]] | None:
            events = await self.events()
            return events if set(wanted) <= set(events) else None

        return await self.until(all_there, f"the events {wanted}")

    async def until(self, ask: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask until the answer is true; return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = await ask()
            if answer:
                return answer
            if time.monotonic() > deadline:
                log = self._operator.log()[-6000:] if self._operator else ""
                found = json.dumps(await self.status(), indent=1)
                raise AssertionError(f"not within {PATIENCE:.0f} s: {what}\nstatus: {found}\n{log}")
            await asyncio.sleep(0.1)

    async def _report(self, pod: Manifest, phase: str, state: Manifest, conditions: list[Manifest]) -> None:
        container = pod["spec"]["containers"][0]
        status = {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": phase == "Running",
                    "started": phase == "Running",
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        name = pod["metadata"]["name"]
        await self.kube.merge(PODS, self.namespace, name, {"status": status}, subresource="status")


def condition(status: Manifest, type_: str) -> Manifest:
    """Return a condition of a status, {} when it is not there."""
    return next((c for c in status.get("conditions") or () if c["type"] == type_), {})


def _index(pod: Manifest) -> int:
    annotations = pod["metadata"].get("annotations") or {}
    return int(annotations.get("batch.kubernetes.io/job-completion-index", 0))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
