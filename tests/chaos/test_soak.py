"""Many runs one after the other and at once: all end as they should, and the operator is as it was before."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import pytest
from quickstart import follow
from quickstart.setup import SYSTEM_NAMESPACE, Ready
from quickstart.shell import Kubectl
from tests.e2e.runs import Runs
from tests.faults.kubelet import SPEC, KubeletHand

from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    QWENSFTJOBS,
    Kube,
    Manifest,
    NotFoundError,
    TransientError,
)

from .breaking import operators
from .figures import Figures

PLAYED, REAL, REAL_AT_ONCE = 200, 20, 2
NAMESPACE = "qwensft-chaos-soak"
LIMIT_SECONDS = 1500.0
MOST_MEGABYTES = 200.0
"""Of the operator when all runs have ended: half as much again as was measured (docs/reliability.md). The chart's
limit, 512 Mi, would notice a leak only after many more runs."""


@pytest.fixture
def _played_namespace(ready: Ready) -> Iterator[None]:
    ready.kubectl.delete("namespace", NAMESPACE)
    ready.kubectl("create", "namespace", NAMESPACE)
    yield
    ready.kubectl.delete("namespace", NAMESPACE)


@pytest.mark.usefixtures("_played_namespace")
def test_many_runs_end_as_they_should(ready: Ready, runs: Runs, figures: Figures) -> None:
    before = operator_figures(ready.kubectl)
    began = time.monotonic()
    with ThreadPoolExecutor(REAL_AT_ONCE + 1) as pool:
        played = pool.submit(asyncio.run, play(ready.kubectl))
        real = [pool.submit(run_for_real, runs, f"soak-{number}") for number in range(REAL)]
        futures: list[Future[Any]] = [played, *real]
        done, left = wait(futures, return_when=FIRST_EXCEPTION)
        for future in left:  # one has failed: those that have not begun need not
            future.cancel()
        for future in done:
            future.result()
        reasons = Counter(future.result() for future in real)
        jobs = played.result()
    after = operator_figures(ready.kubectl)

    assert reasons == {"Completed": REAL}
    per_attempt = Counter(name.split("-", 2)[2] for name in jobs)
    assert per_attempt == dict.fromkeys(("prepare-1", "train-1", "train-2", "merge-1"), PLAYED), "one Job per attempt"
    assert after["restarts"] == before["restarts"], "the operator was restarted"
    assert after["megabytes"] <= MOST_MEGABYTES, (
        f"the operator has {after['megabytes']:.0f} MB after {PLAYED + REAL} runs, more than {MOST_MEGABYTES:.0f}; "
        f"it had {before['megabytes']:.0f} MB before them"
    )
    figures.add(
        "soak", fault=f"{PLAYED} played and {REAL} real runs", stage="soak",
        run_s=time.monotonic() - began, before=before, after=after,
    )  # fmt: skip


def run_for_real(runs: Runs, name: str) -> str:
    """Make one small run with real pods; return how it ended."""
    spec = {"training": {"maxSteps": 3}, "distribution": {"nodes": 1}, "merge": {"enabled": False}}
    runs.create(name, spec)
    last = runs.to_the_end(name, LIMIT_SECONDS).last
    return str(follow.condition(last, "Succeeded")["reason"])


async def play(kubectl: Kubectl) -> list[str]:
    """Play runs that are there at once, the kubelet included; return the names of all Jobs when they have succeeded."""
    os.environ["KUBECONFIG"] = kubectl.env["KUBECONFIG"]
    kube = await Kube.connect(30)
    body: Manifest = {"spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}}
    await kube.create(CLAIMS, NAMESPACE, {"metadata": {"name": "models"}, **body})
    await kube.create(CONFIG_MAPS, NAMESPACE, {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
    names = [f"played-{number}" for number in range(PLAYED)]
    for name in names:
        run = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": name}, "spec": SPEC}
        await kube.create(QWENSFTJOBS, NAMESPACE, run)
    deadline = time.monotonic() + LIMIT_SECONDS
    while names:
        assert time.monotonic() < deadline, f"{len(names)} runs have not ended"
        with suppress(TransientError):
            for seen in await kube.list(QWENSFTJOBS, NAMESPACE):
                phase = seen.get("status", {}).get("phase")
                assert phase != "Failed", seen["status"]
                if phase == "Succeeded" and seen["metadata"]["name"] in names:
                    names.remove(seen["metadata"]["name"])
        for name in names:
            with suppress(NotFoundError, TransientError):  # gone, or the API server is busy: the next round looks again
                await KubeletHand(kube, NAMESPACE, name).move()
    jobs = await kube.list(JOBS, NAMESPACE)
    await kube.close()
    return [job["metadata"]["name"] for job in jobs]


def operator_figures(kubectl: Kubectl) -> dict[str, float]:
    """Memory in MB, CPU seconds, passes that failed, and restarts of the operator's container."""
    (pod,) = operators(kubectl)
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{name}:8080/proxy/metrics"
    told = dict(re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", kubectl("get", "--raw", path), re.MULTILINE))
    return {
        "megabytes": float(told["process_resident_memory_bytes"]) / 1e6,
        "cpu_seconds": float(told["process_cpu_seconds_total"]),
        "restarts": sum(status["restartCount"] for status in pod["status"]["containerStatuses"]),
    }
