"""Records QwenSFTJobs in every state that a GitOps tool can meet: `python -m tests.gitops.record`, some minutes.

The operator of the working tree runs against an etcd and an API server of its own; a hand plays the scheduler, the
kubelet and the Job controller. What is recorded is what the API server then holds, but for managedFields. The objects
are the test data of Argo CD's health check and actions, of kstatus and of Flux's expressions.
ADR 0155 says why.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from benchmarks.control_plane.api import Api, Manifest
from benchmarks.control_plane.contestants import RUNS, Ours, documents, install_kind
from benchmarks.control_plane.hands import ADDRESS, Figures, Hands, now
from benchmarks.control_plane.plane import REPOSITORY, Plane, control_plane
from benchmarks.control_plane.scenes import MERGED, PREPARED, TRAINED

from qwensft.api.v1alpha1 import METRICS_PORT

KIND = REPOSITORY / "gitops" / "argocd" / "resource_customizations" / "qwensft.io" / "QwenSFTJob"
NAMESPACE = "team"
_PATIENCE = 300.0
_SETTINGS = {
    "QWENSFT_ALLOWED_IMAGES": "registry.example.com/team/*",
    "QWENSFT_SCRAPE_INTERVAL_SECONDS": "1",
    "QWENSFT_PROGRESS_INTERVAL_SECONDS": "1",
}
_BAD_ROW = {"outcome": "Failed", "reason": "InvalidDataset", "message": "dataset support, row 71: output is empty"}
_NO_MEMORY = {"outcome": "Failed", "reason": "OutOfMemory", "message": "CUDA out of memory"}


class Recorder:
    """Brings runs into states, and writes them down."""

    def __init__(self, api: Api, ours: Ours) -> None:
        self._api, self._ours, self._hands = api, ours, Hands(api, NAMESPACE)
        self._runs = RUNS.format(NAMESPACE)
        self._pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self._jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"

    async def before_the_operator(self) -> None:
        """What nobody has looked at yet."""
        await self._create("blank")
        await self._keep("blank", phase=None)
        await self._api.delete(f"{self._runs}/blank")

    async def all_states(self) -> None:
        """What an operator that runs writes, all runs side by side."""
        async with Figures(METRICS_PORT), asyncio.TaskGroup() as group:
            for state in (
                self._pending, self._preparing, self._queued, self._suspended, self._training, self._restarting,
                self._lost_node, self._merging, self._failed, self._invalid, self._not_allowed, self._deleting,
            ):  # fmt: skip
                group.create_task(state())

    async def after_the_operator(self) -> None:
        """An edit that nobody has seen: the operator is away."""
        await self._edit("succeeded", merge={"shardSizeGB": 2})
        await self._keep("succeeded", "stale", phase="Succeeded")

    async def _pending(self) -> None:
        datasets = self._ours.manifest("pending")["spec"]["datasets"]
        datasets[0]["source"]["configMap"]["name"] = "rows-of-nobody"
        await self._create("pending", datasets=datasets)
        await self._keep("pending", reason="ConfigMapUnavailable")

    async def _preparing(self) -> None:
        await self._create("preparing")
        await self._started("preparing-prepare-1")
        await self._keep("preparing", phase="Preparing", reason="Running")
        # A field that the CRD has and this operator does not know: the one was upgraded without the other.
        await self._edit("preparing", curriculum={"stages": 3})
        await self._keep("preparing", "broken-edit", phase="Pending", reason="InvalidSpec")

    async def _queued(self) -> None:
        await self._create("queued")
        await self._prepared("queued")
        job = await self._hands.job("queued-train-1")
        await self._api.patch(f"{self._jobs}/{job['metadata']['name']}", {"spec": {"suspend": True}})
        await self._keep("queued", phase="Suspended", reason="Queued")

    async def _suspended(self) -> None:
        await self._create("suspended", runPolicy={"suspend": True})
        suspended = await self._keep("suspended", phase="Suspended", reason="Suspended")
        _write_action("suspended-resumed", suspended, suspend=False)

    async def _training(self) -> None:
        await self._create("training", nodes=2)
        await self._prepared("training")
        await self._started("training-train-1")
        training = await self._keep("training", holds=_has_figures, phase="Training", reason="Running")
        _write_action("training-suspended", training, suspend=True)

    async def _restarting(self) -> None:
        await self._create("restarting", nodes=2)
        await self._prepared("restarting")
        await self._fail("restarting-train-1", 1, _NO_MEMORY)
        await self._keep("restarting", phase="Restarting", reason="OutOfMemory")

    async def _lost_node(self) -> None:
        await self._create("lost-node", nodes=2)
        await self._prepared("lost-node")
        job, (first, _) = await self._started("lost-node-train-1")
        evicted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
        conditions = [
            {"type": "Ready", "status": "False"},  # taken away by the node controller; the kubelet would take both
            {"type": "ContainersReady", "status": "True"},
            evicted,
        ]
        told = [condition | {"lastTransitionTime": now()} for condition in conditions]
        await self._api.patch(f"{self._pods}/{first['metadata']['name']}/status", {"status": {"conditions": told}})
        await self._api.delete(f"{self._pods}/{first['metadata']['name']}")
        await self._hands.count(job, active=1, ready=1)
        await self._keep("lost-node", holds=_tells_of_a_lost_node)

    async def _merging(self) -> None:
        """Record a merge, and the end of this run under another name, so that one run is played to its end."""
        await self._create("succeeded")
        await self._prepared("succeeded")
        await self._hands.through("succeeded-train-1", 0.2, TRAINED)
        job, pods = await self._started("succeeded-merge-1")
        await self._keep("succeeded", "merging", phase="Merging", reason="Running")
        await self._hands.finish(job, pods, MERGED)
        await self._keep("succeeded", phase="Succeeded")

    async def _failed(self) -> None:
        await self._create("failed")
        await self._fail("failed-prepare-1", 78, _BAD_ROW)
        failed = await self._keep("failed", phase="Failed", reason="InvalidDataset")
        _write_action("failed-retried", failed, retry=1)
        await self._edit("failed", runPolicy={"retry": 1})
        await self._keep("failed", "retried", phase="Preparing")

    async def _invalid(self) -> None:
        await self._create("invalid", curriculum={"stages": 3})
        await self._keep("invalid", reason="InvalidSpec")

    async def _not_allowed(self) -> None:
        await self._create("not-allowed", worker={"image": "registry.example.com/others/trainer:1"})
        await self._keep("not-allowed", reason="NotAllowed")

    async def _deleting(self) -> None:
        await self._create("deleting", finalizers=("example.com/archive",))
        await self._started("deleting-prepare-1")
        await self._api.delete(f"{self._runs}/deleting")
        await self._keep("deleting", reason="DeletionHeld")

    async def _create(self, name: str, *, nodes: int = 1, finalizers: tuple[str, ...] = (), **spec: Any) -> None:
        """Create a run as the smallest example has it, but for these parts of its spec."""
        run = self._ours.manifest(name, nodes)
        run["spec"] |= spec
        run["metadata"] |= {"finalizers": list(finalizers)} if finalizers else {}
        await self._api.create(self._runs, run)

    async def _edit(self, name: str, **spec: Any) -> None:
        await self._api.patch(f"{self._runs}/{name}", {"spec": spec})

    async def _keep(
        self,
        name: str,
        as_: str | None = None,
        holds: Callable[[Manifest], bool] = lambda run: True,
        **wanted: str | None,
    ) -> Manifest:
        """Wait until a run has this `phase` and `reason` (of Succeeded) and `holds` is true; write it down."""
        run: Manifest = {}
        try:
            async with asyncio.timeout(_PATIENCE):
                while not run or not holds(run) or any(_said(run)[what] != value for what, value in wanted.items()):
                    await asyncio.sleep(0.2)
                    run = await self._api.get(f"{self._runs}/{name}")
        except TimeoutError:
            raise SystemExit(f"{name} is not {wanted}:\n{yaml.safe_dump(run.get('status'))}") from None
        write(KIND / "testdata" / f"{as_ or name}.yaml", run)
        print(f"recorded {as_ or name}", flush=True)  # noqa: T201
        return run

    async def _prepared(self, name: str) -> None:
        await self._hands.through(f"{name}-prepare-1", 0.2, PREPARED)

    async def _started(self, name: str) -> tuple[Manifest, list[Manifest]]:
        """Have the pods of a Job run; return both."""
        job = await self._hands.job(name)
        pods = await self._hands.create_pods(job)
        await self._hands.run(job, pods)
        return job, pods

    async def _fail(self, name: str, code: int, report: Manifest) -> None:
        """Have the pods of a Job run and fail, and the Job with them."""
        job, pods = await self._started(name)
        for pod in pods:
            state = {"exitCode": code, "reason": "Error", "startedAt": now(), "finishedAt": now()}
            container = {
                "name": pod["spec"]["containers"][0]["name"],
                "image": pod["spec"]["containers"][0]["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": state | {"message": json.dumps(report)}},
            }
            status = {"phase": "Failed", "podIP": ADDRESS, "containerStatuses": [container]}
            await self._api.patch(f"{self._pods}/{pod['metadata']['name']}/status", {"status": status})
        since = {"lastProbeTime": now(), "lastTransitionTime": now()}
        conditions = [
            {"type": type_, "status": "True", "reason": "BackoffLimitExceeded"} | since
            for type_ in ("FailureTarget", "Failed")
        ]
        counts = {"active": 0, "ready": 0, "failed": len(pods)}
        await self._api.patch(
            f"{self._jobs}/{job['metadata']['name']}/status", {"status": counts | {"conditions": conditions}}
        )


def write(path: Path, run: Manifest) -> None:
    """Write a run to a file, but for its managedFields."""
    kept = copy.deepcopy(run)
    kept["metadata"].pop("managedFields", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(kept, sort_keys=False, width=1000, allow_unicode=True))


def _write_action(name: str, run: Manifest, **policy: Any) -> None:
    """Write what an action of Argo CD has to make of a run."""
    wanted = copy.deepcopy(run)
    wanted["spec"].setdefault("runPolicy", {}).update(policy)
    write(KIND / "actions" / "testdata" / f"{name}.yaml", wanted)


def _said(run: Manifest) -> dict[str, str | None]:
    status = run.get("status") or {}
    reason = next((c["reason"] for c in status.get("conditions") or () if c["type"] == "Succeeded"), None)
    return {"phase": status.get("phase"), "reason": reason}


def _has_figures(run: Manifest) -> bool:
    return bool(((run.get("status") or {}).get("progress") or {}).get("step"))


def _tells_of_a_lost_node(run: Manifest) -> bool:
    conditions = (run.get("status") or {}).get("conditions") or ()
    return any("the node no longer answers" in condition["message"] for condition in conditions)


def _newer_kind() -> Manifest:
    """The CRD as a later release might have it: with one field more."""
    (definition,) = (d for path in (REPOSITORY / "crds").glob("*.yaml") for d in documents(path))
    (version,) = definition["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["curriculum"] = {"type": "object", "properties": {"stages": {"type": "integer"}}}
    return dict(definition)


async def record(plane: Plane, api: Api) -> None:
    """Record all states."""
    await install_kind(api, _newer_kind())
    await api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    rows = {"metadata": {"name": "minimal-rows"}, "data": {"rows.jsonl": "{}"}}
    await api.create(f"/api/v1/namespaces/{NAMESPACE}/configmaps", rows)
    ours = Ours(plane)
    recorder = Recorder(api, ours)
    await recorder.before_the_operator()
    async with ours.running():
        await recorder.all_states()
    await recorder.after_the_operator()


async def _main() -> None:
    os.environ.update(_SETTINGS)
    with tempfile.TemporaryDirectory(prefix="qwensft-record-") as directory:
        async with control_plane(Path(directory)) as plane, plane.api() as api:
            try:
                await record(plane, api)
            except BaseException:
                print((plane.directory / "operator.log").read_text()[-6000:])  # noqa: T201
                raise


if __name__ == "__main__":
    asyncio.run(_main())
