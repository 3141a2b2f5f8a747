"""Nodes are read rarely, once for all, and a cluster that hides them is no reason to fail."""

import asyncio
import logging
from typing import Any

import pytest

from qwensft_operator.plan.types import NodeView
from qwensft_operator.runtime.kube import NODES, ForbiddenError, KubeError, Manifest, TransientError
from qwensft_operator.runtime.nodes import Nodes

from .fakes import FakeKube

LABEL = "nvidia.com/gpu.memory"
GPU = NodeView("gpu-0", {LABEL: "81920", "pool": "train"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowKube(FakeKube):
    async def _request(self, *args: Any, **named: Any) -> Manifest:
        await asyncio.sleep(0)
        return await super()._request(*args, **named)


class World:
    def __init__(self) -> None:
        self.kube, self.clock = SlowKube(), Clock()
        self.nodes = Nodes(self.kube, enabled=True, now=self.clock)
        self.add(GPU)

    def add(self, node: NodeView) -> None:
        self.kube.put(NODES, "", {"metadata": {"name": node.name, "labels": dict(node.labels)}})

    @property
    def reads(self) -> int:
        return len(self.kube.calls)


@pytest.fixture
def world() -> World:
    return World()


async def test_what_was_read_serves_for_minutes(world: World) -> None:
    assert await world.nodes.labelled(LABEL) == (GPU,)
    world.add(NodeView("gpu-1", {LABEL: "24576"}))
    world.clock.now += 299
    assert await world.nodes.labelled(LABEL) == (GPU,)
    world.clock.now += 1
    assert len(await world.nodes.labelled(LABEL)) == 2
    assert world.reads == 2


async def test_runs_that_ask_at_the_same_time_share_one_read(world: World) -> None:
    found = await asyncio.gather(*(world.nodes.labelled(LABEL) for _ in range(50)))
    assert found == [(GPU,)] * 50
    assert world.reads == 1


async def test_each_kind_of_accelerator_is_read_for_itself(world: World) -> None:
    assert await world.nodes.labelled("nvidia.com/mig-3g.40gb.memory") == ()
    assert await world.nodes.labelled(LABEL) == (GPU,)


async def test_without_the_right_to_read_nodes_nothing_is_known_and_it_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.kube.refuse["list", "nodes"] = ForbiddenError(403, "Forbidden", "cannot list resource nodes")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await world.nodes.labelled(LABEL) == ()
            world.clock.now += 301
    assert world.reads == 3
    (record,) = (record for record in caplog.records if record.levelno >= logging.INFO)
    assert record.message.startswith("going on without the nodes' labels, so no estimate knows")
    assert "cannot list resource nodes" in record.message


@pytest.mark.parametrize(
    "error",
    [TransientError(503, "ServiceUnavailable", "no"), KubeError(418, "Teapot", "no"), TypeError("a bug")],
)
async def test_a_failed_read_leaves_what_was_known_and_is_tried_again_soon(world: World, error: Exception) -> None:
    await world.nodes.labelled(LABEL)
    world.clock.now += 301
    world.kube.refuse["list", "nodes"] = error
    assert await world.nodes.labelled(LABEL) == (GPU,)
    assert await world.nodes.labelled(LABEL) == (GPU,)
    assert world.reads == 2
    world.clock.now += 31
    await world.nodes.labelled(LABEL)
    assert world.reads == 3


async def test_switched_off_nothing_is_read(world: World) -> None:
    assert await Nodes(world.kube, enabled=False).labelled(LABEL) == ()
    assert world.reads == 0
