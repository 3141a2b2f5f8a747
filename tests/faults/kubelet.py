"""A kubelet's part in a run: what its pods report, written by the test.

`KubeletHand` plays the run of the tests of this kind: prepare ends well, the first training fails after it ran, the
second one ends well, and so does the merge.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from qwensft_operator.runtime.kube import PODS, Kube, Manifest

SPEC: Manifest = {
    "model": {"name": "Qwen/Qwen3-0.6B", "source": {"volume": {"claimName": "models", "path": "qwen3"}}},
    "datasets": [{"name": "facts", "format": "alpaca", "source": {"configMap": {"name": "facts", "key": "f.json"}}}],
    "distribution": {"nodes": 2},
    "worker": {"accelerator": {"count": 0}, "nodeSelector": {"qwensft.io/no-such-node": "true"}},
    "storage": {"volume": {"claimTemplate": {"size": "1Mi"}}},
}
"""Of a run with two pods in its training, whose pods no node takes."""

ADAPTER = {"path": "demo/train/adapter", "sizeBytes": 1000, "digest": "sha256:abc"}
MERGED = {"path": "demo/merged", "sizeBytes": 2000, "digest": "sha256:def"}
_REPORTS: dict[str, Manifest] = {
    "prepare-1": {"metrics": {"samples": 200, "tokens": 40000}},
    "train-1": {"outcome": "Failed", "reason": "OutOfMemory", "message": "CUDA out of memory"},
    "train-2": {"metrics": {"step": 500, "totalSteps": 500, "loss": 0.5}, "outputs": {"adapter": ADAPTER}},
    "merge-1": {"outputs": {"merged": MERGED}},
}


class KubeletHand:
    """Plays a run's pods: all of a Job start, then all end as the story says."""

    def __init__(self, kube: Kube, namespace: str, run: str = "demo") -> None:
        self._kube, self._namespace, self._run = kube, namespace, run

    async def move(self) -> None:
        """Bring every pod of the run one step forward."""
        selector = f"qwensft.io/job={self._run}"
        for pod in await self._kube.list(PODS, self._namespace, label_selector=selector):
            state = pod["status"].get("phase", "Pending")
            if "deletionTimestamp" in pod["metadata"] or state in ("Succeeded", "Failed"):
                continue
            if state == "Pending":
                await self.report(pod, *running())
            else:
                attempt = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].removeprefix(f"{self._run}-")
                report = {"outcome": "Succeeded"} | _REPORTS.get(attempt, {})
                await self.report(pod, *ended(pod, 0 if report["outcome"] == "Succeeded" else 1, report))

    async def report(self, pod: Manifest, phase: str, state: Manifest) -> None:
        """Write a pod's status."""
        up, container = phase == "Running", pod["spec"]["containers"][0]
        told = {"name": container["name"], "image": "i", "imageID": "", "ready": up, "started": up, "restartCount": 0}
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if up else "False"}],
            "containerStatuses": [told | {"state": state}],
        }
        name = pod["metadata"]["name"]
        await self._kube.merge(PODS, self._namespace, name, {"status": status}, subresource="status")


def running() -> tuple[str, Manifest]:
    """Phase and container state of a pod that runs."""
    return "Running", {"running": {"startedAt": _now()}}


def ended(pod: Manifest, code: int, report: Manifest) -> tuple[str, Manifest]:
    """Phase and container state of a pod that has ended; node rank 0 leaves the report, the others its outcome."""
    annotations = pod["metadata"].get("annotations") or {}
    index = int(annotations.get("batch.kubernetes.io/job-completion-index", 0))
    said = report if index == 0 else {"outcome": report["outcome"]}
    terminated = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": _now(),
        "finishedAt": _now(),
        "message": json.dumps(said),
    }
    return "Succeeded" if code == 0 else "Failed", {"terminated": terminated}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
