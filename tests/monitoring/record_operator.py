"""Records what a real operator serves: `python -m tests.monitoring.record_operator DIRECTORY`.

The operator of the working tree works on an API server of its own, as in benchmarks/control_plane, and hands play the
kubelet: one run is trained twice, since its first attempt fails, and merged; one fails; one waits for pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from benchmarks.control_plane.api import Api, Manifest
from benchmarks.control_plane.contestants import RUNS, Ours, documents, install_kind
from benchmarks.control_plane.hands import Hands, now
from benchmarks.control_plane.plane import REPOSITORY, control_plane
from benchmarks.control_plane.scenes import MERGED, PREPARED, TRAINED
from tests.monitoring.recordings import write

_TEAM = "team"
_PATIENCE = 180.0


async def record(directory: Path) -> None:
    """Play the runs, scraping meanwhile, and write what was told."""
    with tempfile.TemporaryDirectory() as scratch:
        async with control_plane(Path(scratch)) as plane, plane.api() as api:
            await install_kind(api, documents(next((REPOSITORY / "crds").glob("*.yaml")))[0])
            await api.create("/api/v1/namespaces", {"metadata": {"name": _TEAM}})
            rows, _ = documents(REPOSITORY / "examples" / "minimal.yaml")
            await api.create(f"/api/v1/namespaces/{_TEAM}/configmaps", rows)
            ours = Ours(plane)
            async with ours.running() as (operator,):
                scrapes: list[str] = []
                scraping = asyncio.create_task(_scrape(_url(operator.log), scrapes))
                await _play(api, ours)
                await _until_counted(scrapes)
                scraping.cancel()
                write(directory, scrapes)


def _url(log: Path) -> str:
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    port = next(line["message"].rpartition(" ")[2] for line in lines if "/metrics on port" in line["message"])
    return f"http://127.0.0.1:{port}/metrics"


async def _scrape(url: str, scrapes: list[str]) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(url) as answer:
                scrapes.append(await answer.text())
            await asyncio.sleep(1)


async def _play(api: Api, ours: Ours) -> None:
    hands = Hands(api, _TEAM)
    for name in ("good", "bad", "waiting"):
        await api.create(RUNS.format(_TEAM), ours.manifest(name))
    await asyncio.gather(_good(api, hands), _bad(api, hands), hands.job("waiting-prepare-1"))


async def _good(api: Api, hands: Hands) -> None:
    await hands.through("good-prepare-1", 1.0, PREPARED)
    job = await hands.job("good-train-1")
    pods = await hands.create_pods(job)
    await hands.run(job, pods)
    await asyncio.sleep(3)
    begun = {"attemptTrainingTimestampSeconds": time.time() - 3, "attemptFromStep": 0, "step": 30}
    await _fail(api, job, pods[0], 1, {"reason": "AcceleratorFailed", "metrics": begun})
    trained = {"step": 1800, "totalSteps": 1800, "attemptFromStep": 10}  # 20 steps are trained again
    await hands.through("good-train-2", 3.0, TRAINED | {"metrics": trained})
    await hands.through("good-merge-1", 1.0, MERGED)
    await _until_phase(api, "good", "Succeeded")


async def _bad(api: Api, hands: Hands) -> None:
    job = await hands.job("bad-prepare-1")
    pods = await hands.create_pods(job)
    await hands.run(job, pods)
    await _fail(api, job, pods[0], 78, {"reason": "InvalidDataset"})
    await _until_phase(api, "bad", "Failed")


async def _fail(api: Api, job: Manifest, pod: Manifest, code: int, told: Manifest) -> None:
    """Have a pod end with that exit code and report, and its Job with it."""
    report = {"outcome": "Failed", "rank": 0, "message": "played", **told}
    container = pod["spec"]["containers"][0]
    terminated = {"exitCode": code, "reason": "Error", "startedAt": now(), "finishedAt": now()}
    ended = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": terminated | {"message": json.dumps(report)}},
    }
    core = f"/api/v1/namespaces/{_TEAM}/pods/{pod['metadata']['name']}/status"
    await api.patch(core, {"status": {"phase": "Failed", "containerStatuses": [ended]}})
    conditions = [
        {"type": type_, "status": "True", "lastTransitionTime": now(), "reason": "BackoffLimitExceeded"}
        for type_ in ("FailureTarget", "Failed")
    ]
    started = {"startTime": job["metadata"]["creationTimestamp"], "uncountedTerminatedPods": {}}
    status = started | {"active": 0, "ready": 0, "failed": 1, "conditions": conditions}
    path = f"/apis/batch/v1/namespaces/{_TEAM}/jobs/{job['metadata']['name']}/status"
    await api.patch(path, {"status": status})


async def _until_phase(api: Api, name: str, phase: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            with contextlib.suppress(KeyError):
                if (await api.get(f"{RUNS.format(_TEAM)}/{name}"))["status"]["phase"] == phase:
                    return
            await asyncio.sleep(0.2)


async def _until_counted(scrapes: list[str]) -> None:
    """Counters of a new namespace stand at zero for two minutes."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            if f'qwensft_runs_ended_total{{phase="Failed",run_namespace="{_TEAM}"}} 1.0' in scrapes[-1]:
                return
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1])))
