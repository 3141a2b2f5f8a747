"""A burst of changes is one look, one's own write is none, and a gang's pods are gathered for longer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from qwensft_operator import plan
from qwensft_operator.runtime.kinds import CHILDREN, KINDS, RUNS, Key
from qwensft_operator.runtime.kube import CLAIMS, JOBS, PODS, QWENSFTJOBS, Manifest, Resource
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.wake import Wakes

from .fakes import in_virtual_time, job_manifest
from .observing import LABELS, UID, child

KEY = ("team", "demo")


class World:
    def __init__(self) -> None:
        self.queue: WorkQueue[Key] = WorkQueue()
        self.store = Store(Wakes(self.queue, asyncio.get_running_loop()))

    async def looked_at_after(self) -> float:
        """Wait for a look; return how many seconds that took."""
        started = asyncio.get_running_loop().time()
        key = await asyncio.wait_for(self.queue.get(), 60)
        self.queue.done(key)
        assert key == KEY
        return asyncio.get_running_loop().time() - started


def run(version: int) -> Manifest:
    manifest = job_manifest()
    manifest["metadata"]["resourceVersion"] = str(version)
    return manifest


def pod(number: int, version: int) -> Manifest:
    metadata = {"name": f"pod-{number}", "namespace": "team", "labels": LABELS, "resourceVersion": str(version)}
    return {"metadata": metadata}


@in_virtual_time
async def test_a_burst_of_changes_asks_for_one_look() -> None:
    world = World()
    for version in range(1, 9):
        world.store.observed(RUNS, run(version))
    assert await world.looked_at_after() == pytest.approx(0.1)
    with pytest.raises(TimeoutError):
        await world.looked_at_after()


@in_virtual_time
async def test_the_pods_of_a_gang_are_gathered_unless_something_else_is_more_urgent() -> None:
    world = World()
    for number in range(256):
        world.store.observed(KINDS[PODS], pod(number, 10 + number))
    assert await world.looked_at_after() == pytest.approx(1.5)
    world.store.observed(KINDS[PODS], pod(1, 1000))
    world.store.observed(RUNS, run(1001))
    assert await world.looked_at_after() == pytest.approx(0.1)


@pytest.mark.parametrize("event_first", [True, False])
def test_an_own_write_wakes_nobody_whether_its_event_comes_before_its_answer_or_after(*, event_first: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        world = World()
        if event_first:
            world.store.observed(RUNS, run(5))
        world.store.wrote(QWENSFTJOBS, run(5))
        world.store.observed(RUNS, run(5))
        with pytest.raises(TimeoutError):
            await world.looked_at_after()
        world.store.observed(RUNS, run(6))
        assert await world.looked_at_after() == pytest.approx(0.1)

    test()


READ: dict[Resource, Callable[[Manifest], Any]] = {
    JOBS: lambda manifest: plan.child_job(manifest, UID),
    PODS: plan.pod_view,
    CLAIMS: plan.claim_view,
}
"""Who reads what is remembered whole or in part."""


class Noting(dict[str, Any]):
    """Notes which of its keys are read."""

    def __init__(self, manifest: Manifest, path: str, noted: set[str]) -> None:
        super().__init__(
            {k: Noting(v, f"{path}.{k}", noted) if isinstance(v, dict) else v for k, v in manifest.items()}
        )
        self._path, self._noted = path, noted

    def get(self, key: str, default: Any = None) -> Any:
        self._noted.add(f"{self._path}.{key}")
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._noted.add(f"{self._path}.{key}")
        return super().__getitem__(key)


@pytest.mark.parametrize("resource", READ, ids=lambda resource: resource.plural)
def test_all_that_is_read_of_an_object_is_remembered(resource: Resource) -> None:
    """A field that a view reads from now on, and that is not remembered, would be missing without a word."""
    noted: set[str] = set()
    manifest = child("train", 1) if resource is JOBS else {"metadata": {"name": "x"}, "spec": {"a": 1}, "status": {}}
    manifest["spec"] = {"a": 1}
    READ[resource](Noting(manifest, "", noted))
    kind = KINDS[resource]
    for path in sorted(noted):
        _, *keys = path.split(".")
        if keys == ["metadata"]:
            continue
        document: Manifest = {keys[-1]: {}}
        for key in reversed(keys[:-1]):
            document = {key: document}
        document.setdefault("metadata", {})
        assert kind.kept(document) == document, f"{path} is read of {resource.plural}"


def test_what_is_remembered_of_a_pod_is_what_is_read_of_it() -> None:
    (pods,) = (kind for kind in CHILDREN if kind.resource == PODS)
    manifest: Manifest = {
        "metadata": {"name": "p", "annotations": {"a": "b"}, "managedFields": [{}]},
        "spec": {"nodeName": "n", "containers": [{}]},
        "status": {"phase": "Running"},
    }
    assert pods.kept(manifest) == {
        "metadata": {"name": "p", "annotations": {"a": "b"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    assert "managedFields" in manifest["metadata"]


@pytest.mark.parametrize("labels", [{}, {"qwensft.io/job": "demo"}, {"app.kubernetes.io/managed-by": "Helm"}])
async def test_an_answer_about_what_no_watch_tells_of_is_not_kept(labels: dict[str, str]) -> None:
    world = World()
    metadata = {"name": "x", "namespace": "team", "labels": labels, "resourceVersion": "1"}
    world.store.wrote(JOBS, {"metadata": metadata})
    assert world.store.count(JOBS) == 0
