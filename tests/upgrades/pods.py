"""Pods of one-pod Jobs on an API server without controllers: each is the trainer's command line on a `Node`."""

from __future__ import annotations

import json

from benchmarks.control_plane.api import Api
from benchmarks.control_plane.hands import ADDRESS, Hands, now

from .node import Ended, Node
from .records import NAMESPACE, Manifest


class Pods:
    """Plays scheduler, kubelet and Job controller."""

    def __init__(self, api: Api, node: Node) -> None:
        self._api, self._node, self._hands = api, node, Hands(api, NAMESPACE)
        self._jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        self._pods = f"/api/v1/namespaces/{NAMESPACE}/pods"

    async def start(self, name: str) -> tuple[Manifest, list[Manifest]]:
        """Wait for a Job, and have its pod run; return both."""
        job = await self._hands.job(name)
        pods = await self._hands.create_pods(job)
        await self._hands.run(job, pods)
        return job, pods

    async def through(self, name: str) -> None:
        """Wait for a Job, and play it to its end."""
        job, pods = await self.start(name)
        await self.end(job, pods, await self.ran(job))

    async def finish(self, name: str) -> None:
        """Play a Job whose pod runs already to its end."""
        job = await self._hands.job(name)
        await self.end(job, await self._running(name), await self.ran(job))

    async def lose(self, name: str) -> None:
        """Have the pod of a Job die that has run so far, as its trainer tells it."""
        report = {"outcome": "Failed", "reason": "TrainingFailed", "message": "worker 0 was killed by signal 9"}
        await self.end(await self._hands.job(name), await self._running(name), Ended(1, json.dumps(report)))

    async def ran(self, job: Manifest) -> Ended:
        """Do what the Job's pod does; return what it left."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{job['metadata']['name']}"
        return self._node.run(job, (await self._api.get(path))["data"])

    async def hold(self, name: str) -> None:
        """Wait for a Job, and suspend it."""
        job = await self._hands.job(name)
        await self._api.patch(f"{self._jobs}/{name}", {"spec": {"suspend": True}})
        since = {"lastProbeTime": now(), "lastTransitionTime": now()}
        suspended = {"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended"}
        await self._status(job, {"active": 0, "conditions": [suspended | since]})

    async def release(self, name: str) -> None:
        """Let a Job go on that was held."""
        job = await self._api.patch(f"{self._jobs}/{name}", {"spec": {"suspend": False}})
        since = {"lastProbeTime": now(), "lastTransitionTime": now()}
        resumed = {"type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed"}
        await self._status(job, {"conditions": [resumed | since]})

    async def end(self, job: Manifest, pods: list[Manifest], ended: Ended) -> None:
        """Have a Job's pod end as it did, and the Job with it."""
        if ended.code == 0:
            await self._hands.finish(job, pods, json.loads(ended.message))
            return
        for pod in pods:
            terminated = {"exitCode": ended.code, "reason": "Error", "startedAt": now(), "finishedAt": now()}
            container = {
                "name": pod["spec"]["containers"][0]["name"],
                "image": pod["spec"]["containers"][0]["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": terminated | {"message": ended.message}},
            }
            status = {"phase": "Failed", "podIP": ADDRESS, "containerStatuses": [container]}
            await self._api.patch(f"{self._pods}/{pod['metadata']['name']}/status", {"status": status})
        since = {"lastProbeTime": now(), "lastTransitionTime": now(), "reason": "BackoffLimitExceeded"}
        conditions = [{"type": type_, "status": "True"} | since for type_ in ("FailureTarget", "Failed")]
        counts = {"active": 0, "ready": 0, "failed": len(pods), "uncountedTerminatedPods": {}}
        await self._status(job, counts | {"conditions": conditions})

    async def _running(self, name: str) -> list[Manifest]:
        listed = await self._api.get(f"{self._pods}?labelSelector=batch.kubernetes.io/job-name%3D{name}")
        pods: list[Manifest] = listed["items"]
        return pods

    async def _status(self, job: Manifest, status: Manifest) -> None:
        await self._api.patch(f"{self._jobs}/{job['metadata']['name']}/status", {"status": status})
