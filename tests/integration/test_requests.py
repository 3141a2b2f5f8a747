"""How many requests a run costs an operator that watches its namespace."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, SERVICES

from .cluster import Cluster, Operator
from .conftest import start_operator

GANG = 256


class Requests:
    """Those of an operator, by verb and resource."""

    def __init__(self, operator: Operator) -> None:
        self._operator, self._before = operator, Counter[tuple[str, str]]()

    def begin(self) -> None:
        """Count from now on."""
        self._before = self._all()

    def counts(self) -> Counter[tuple[str, str]]:
        return self._all() - self._before

    def until(self, last: tuple[str, str]) -> Counter[tuple[str, str]]:
        """Count all up to the first of that kind: what a real cluster does next is another matter."""
        done = self._log()[self._before.total() :]
        return Counter(done[: done.index(last) + 1])

    def _all(self) -> Counter[tuple[str, str]]:
        return Counter(self._log())

    def _log(self) -> list[tuple[str, str]]:
        return re.findall(r"^request (\w+) (\S+)$", self._operator.log(), re.MULTILINE)


@pytest.fixture
def requests(lone_cluster: Cluster, tmp_path: Path) -> Iterator[Requests]:
    """The requests of an operator that has listed all there is."""
    operator = start_operator(
        tmp_path / "requests.log",
        str(Path(__file__).parent / "counting_operator.py"),
        QWENSFT_NAMESPACES=lone_cluster.namespace,
        QWENSFT_LEADER_ELECTION="false",
        QWENSFT_READ_NODES="false",
        QWENSFT_PROGRESS_INTERVAL_SECONDS="60",
    )
    with operator:
        operator.wait_until_ready()
        counted = Requests(operator)
        counted.begin()
        yield counted


async def test_a_run_until_its_job_exists_and_is_told(lone_cluster: Cluster, requests: Requests) -> None:
    await lone_cluster.apply(model={"name": "Qwen/Qwen3-0.6B"})  # each claim of others is read once
    await lone_cluster.reaches(phase="Preparing")
    await lone_cluster.told(("Normal", "PodsStarting"))
    counts = requests.until(("POST", "events"))
    reads = sum(count for (method, _), count in counts.items() if method == "GET")
    assert reads <= 4, counts
    assert counts.total() - reads <= 5, counts


async def test_a_gang(lone_cluster: Cluster, requests: Requests) -> None:
    await lone_cluster.apply(distribution={"nodes": GANG})
    await lone_cluster.end_pods("demo-prepare-1")
    await lone_cluster.exists(JOBS, "demo-train-1")
    requests.begin()
    await lone_cluster.run_pods("demo-train-1", GANG)
    await lone_cluster.reaches(phase="Training", reason="Running")
    assert requests.counts()["GET", "pods"] <= 5, requests.counts()
    assert requests.counts()["GET", "events"] <= 5, requests.counts()
    assert requests.counts()["PATCH", "qwensftjobs"] <= 15, requests.counts()


async def test_what_somebody_deletes_is_back_within_five_seconds(lone_cluster: Cluster, requests: Requests) -> None:
    """A watch tells of it; nothing is read but the ConfigMap of which the deleted one is a copy."""
    await lone_cluster.apply()
    await lone_cluster.end_pods("demo-prepare-1")
    await lone_cluster.run_pods("demo-train-1", 2)
    await lone_cluster.reaches(phase="Training", reason="Running")
    copied = {("GET", "configmaps"): 1}
    for resource, name, read in ((CONFIG_MAPS, "demo-train-1", copied), (SERVICES, "demo-train", {})):
        before = await lone_cluster.exists(resource, name)
        requests.begin()
        await lone_cluster.delete(resource, name)
        async with asyncio.timeout(5):
            await lone_cluster.replaced(resource, before)
        assert requests.counts()["POST", resource.plural] == 1, requests.counts()
        until_then = requests.until(("POST", resource.plural))
        reads = {request: count for request, count in until_then.items() if request[0] == "GET"}
        assert reads == read, until_then
