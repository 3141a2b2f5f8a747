"""What is heard becomes a key, and pods tell where they can be scraped."""

import asyncio
from typing import Any

import kopf
import pytest
from kubernetes.aio.client.configuration import Configuration

from qwensft_operator.runtime.kube import Kube
from qwensft_operator.runtime.observe import Key
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.scrape import PodAddresses
from qwensft_operator.runtime.watch import Watcher


class World:
    def __init__(self) -> None:
        self.queue: WorkQueue[Key] = WorkQueue()
        self.addresses = PodAddresses()
        kube = Kube(Configuration(host="http://127.0.0.1:1"), 1)
        self.watcher = Watcher(kube, self.queue, self.addresses, (), timeout=1, patience=60)

    async def pod(
        self, type_: str | None, uid: str = "pod-1", *, stage: str = "train", index: str = "0", **status: Any
    ) -> None:
        labels = {
            "qwensft.io/job": "demo",
            "qwensft.io/stage": stage,
            "batch.kubernetes.io/controller-uid": "job-uid",
        }
        labels |= {"batch.kubernetes.io/job-completion-index": index} if stage == "train" else {}
        event: Any = {"type": type_, "object": {"metadata": {"uid": uid}, "status": status}}
        await self.watcher._on_pod(namespace="team", event=event, labels=labels)


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_burst_of_events_asks_for_one_look_at_the_run(world: World) -> None:
    await world.watcher._on_run(namespace="team", name="demo")
    await world.pod("ADDED")
    await world.pod("MODIFIED")
    assert await asyncio.wait_for(world.queue.get(), timeout=5) == ("team", "demo")
    world.queue.done(("team", "demo"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.queue.get(), timeout=0.3)


async def test_the_first_training_pod_is_scraped_while_it_runs(world: World) -> None:
    await world.pod(None, phase="Running", podIP="10.0.0.1")
    await world.pod("ADDED", "pod-2", index="1", phase="Running", podIP="10.0.0.2")
    assert world.addresses.get("job-uid") == "10.0.0.1"
    await world.pod("MODIFIED", phase="Failed", podIP="10.0.0.1")
    assert world.addresses.get("job-uid") is None


async def test_the_pod_of_a_merge_is_scraped_and_none_of_prepare(world: World) -> None:
    await world.pod("ADDED", stage="prepare", phase="Running", podIP="10.0.0.1")
    assert world.addresses.get("job-uid") is None
    await world.pod("ADDED", stage="merge", phase="Running", podIP="10.0.0.2")
    assert world.addresses.get("job-uid") == "10.0.0.2"


async def test_a_pod_that_is_deleted_late_does_not_hide_its_successor(world: World) -> None:
    await world.pod("ADDED", "old", phase="Running", podIP="10.0.0.1")
    await world.pod("ADDED", "new", phase="Running", podIP="10.0.0.2")
    await world.pod("DELETED", "old", phase="Running", podIP="10.0.0.1")
    assert world.addresses.get("job-uid") == "10.0.0.2"


async def test_kopf_gets_a_login_that_needs_no_synchronous_client(world: World) -> None:
    session = await world.watcher._login()
    assert isinstance(session, kopf.AiohttpSession)
    assert session.server == "http://127.0.0.1:1"
    await session.aiohttp_session.close()
