"""Hands that play the scheduler, the kubelet and the Job controller, none of which runs here."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web
from benchmarks.control_plane.api import Api, ApiError, Manifest

_PATIENCE = 120.0
_INDEX = "batch.kubernetes.io/job-completion-index"
ADDRESS = "127.0.0.1"
"""Of every pod: figures are served there."""


class Hands:
    """Plays for the Jobs of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"

    async def job(self, name: str) -> Manifest:
        """Wait for a Job."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    return await self._api.get(f"{self._jobs}/{name}")
                except ApiError as error:
                    if error.status != 404:
                        raise
                await asyncio.sleep(0.05)

    async def create_pods(self, job: Manifest) -> list[Manifest]:
        """Create a Job's pods, unscheduled; the Job counts them as active."""
        meta, spec = job["metadata"], job["spec"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        indexed = spec.get("completionMode") == "Indexed"
        pods = []
        for index in range(spec["parallelism"]):
            template = spec["template"]
            labels, annotations = dict(template["metadata"].get("labels") or {}), {}
            pod_spec = dict(template["spec"])
            if indexed:
                labels[_INDEX] = annotations[_INDEX] = str(index)
                pod_spec["hostname"] = f"{meta['name']}-{index}"
            body = {
                "metadata": {
                    "name": f"{meta['name']}-{index}-pod",
                    "labels": labels,
                    "annotations": annotations,
                    "ownerReferences": [owner],
                },
                "spec": pod_spec,
            }
            pods.append(await self._api.create(self._pods, body))
        await self.count(job, active=len(pods), ready=0)
        return pods

    async def bind(self, pod: Manifest) -> None:
        """Schedule a pod, and have its container be created."""
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": "played"}
        await self._api.create(f"{self._pods}/{name}/binding", {"metadata": {"name": name}, "target": target})
        await self._report(pod, "Pending", {"waiting": {"reason": "ContainerCreating"}}, ready=False)

    async def start(self, pod: Manifest) -> None:
        """Have a pod run and be ready."""
        await self._report(pod, "Running", {"running": {"startedAt": now()}}, ready=True)

    async def end(self, pod: Manifest, report: Manifest | None = None) -> None:
        """Have a pod succeed; the report of index 0 is the trainer's."""
        index = int((pod["metadata"].get("annotations") or {}).get(_INDEX, 0))
        message = {"outcome": "Succeeded", "rank": index, **((report or {}) if index == 0 else {})}
        terminated = {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": now(),
            "finishedAt": now(),
            "message": json.dumps(message),
        }
        await self._report(pod, "Succeeded", {"terminated": terminated}, ready=False)

    async def count(self, job: Manifest, *, active: int, ready: int) -> None:
        """Have the Job say how many of its pods are there and ready."""
        status = {"startTime": job["metadata"]["creationTimestamp"], "active": active, "ready": ready}
        await self._job_status(job, status | {"uncountedTerminatedPods": {}})

    async def complete(self, job: Manifest) -> None:
        """Have the Job be complete."""
        conditions = [
            {"type": type_, "status": "True", "lastProbeTime": now(), "lastTransitionTime": now(), "reason": reason}
            for type_, reason in (("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached"))
        ]
        status = {
            "startTime": job["metadata"]["creationTimestamp"],
            "completionTime": now(),
            "active": 0,
            "ready": 0,
            "succeeded": job["spec"]["completions"],
            "uncountedTerminatedPods": {},
            "conditions": conditions,
        }
        if job["spec"].get("completionMode") == "Indexed":
            last = job["spec"]["completions"] - 1
            status["completedIndexes"] = f"0-{last}" if last else "0"
        await self._job_status(job, status)

    async def through(self, name: str, seconds: float, report: Manifest | None = None) -> None:
        """Play a Job from its creation to its end: its pods run for that long."""
        job = await self.job(name)
        pods = await self.create_pods(job)
        await self.run(job, pods)
        await asyncio.sleep(seconds)
        await self.finish(job, pods, report)

    async def run(self, job: Manifest, pods: Sequence[Manifest], pause: float = 0.5) -> None:
        """Have all pods be scheduled and, after a pause, be ready; the Job counts them now and then, as it does."""
        for pod in pods:
            await self.bind(pod)
        await asyncio.sleep(pause)
        counted = time.monotonic()
        for ready, pod in enumerate(pods, start=1):
            await self.start(pod)
            # The Job controller waits a second for more to change before it counts again.
            if ready == len(pods) or time.monotonic() - counted > 1:
                await self.count(job, active=len(pods), ready=ready)
                counted = time.monotonic()

    async def finish(self, job: Manifest, pods: Sequence[Manifest], report: Manifest | None = None) -> None:
        """Have all pods succeed, and the Job with them."""
        for pod in pods:
            await self.end(pod, report)
        await self.complete(job)

    async def _job_status(self, job: Manifest, status: Manifest) -> None:
        await self._api.patch(f"{self._jobs}/{job['metadata']['name']}/status", {"status": status})

    async def _report(self, pod: Manifest, phase: str, state: Manifest, *, ready: bool) -> None:
        container = pod["spec"]["containers"][0]
        said = "True" if ready else "False"
        status = {
            "phase": phase,
            "podIP": ADDRESS,
            "podIPs": [{"ip": ADDRESS}],
            "conditions": [
                {"type": type_, "status": said, "lastTransitionTime": now()} for type_ in ("Ready", "ContainersReady")
            ]
            + [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": ready,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        if phase == "Pending":
            del status["podIP"], status["podIPs"]
        await self._api.patch(f"{self._pods}/{pod['metadata']['name']}/status", {"status": status})


class Figures:
    """Serves a training's figures as node rank 0 does: a step every other second, an hour of them."""

    def __init__(self, port: int) -> None:
        self._port, self._began = port, time.monotonic()

    async def __aenter__(self) -> None:
        self._began = time.monotonic()
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, ADDRESS, self._port).start()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        step = int((time.monotonic() - self._began) / 2) + 1
        told = {
            "step": step,
            "total_steps": 1800,
            "epoch": step / 600,
            "loss": 2.0 / step**0.2,
            "initial_loss": 2.0,
            "learning_rate": 1e-4,
            "tokens_per_second": 9000.0 + step % 7,
            "estimated_remaining_seconds": max(0, 1800 - step) * 2,
            "non_finite_loss": 0,
        }
        lines = itertools.chain.from_iterable(
            (f"# TYPE qwensft_train_{name} gauge", f"qwensft_train_{name} {value}") for name, value in told.items()
        )
        return web.Response(text="\n".join(lines) + "\n")


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
