"""A run begins with another's model, of which there are several under one name: all attempts are made from one.

The operator dies, or is left in doubt, at each of its first writes, and the other run is created anew at each look.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import yaml
from tests.faults.kubelet import SPEC
from tests.faults.wire import Cut, Line

from qwensft_operator.runtime.kube import CLAIMS, CONFIG_MAPS, JOBS, QWENSFTJOBS, Manifest

from .world import KEY, World

FIRST_WRITES = 8  # choice and its Event; claim, ConfigMap, Job, status, Event of prepare; and more
LOOKS = 6  # in which the other run is created anew


async def create_first(world: World, digest: str) -> None:
    """Create the first run, anew if there is one, and let it succeed."""
    world.plane.objects.pop((QWENSFTJOBS.plural, "team", "first"), None)
    stored = world.plane.put(QWENSFTJOBS.plural, "team", {"metadata": {"name": "first"}, "spec": SPEC})
    path = f"first-{stored['metadata']['uid'][:8]}/merged"
    merged = {"claimName": "first-workspace", "path": path, "digest": f"sha256:{digest}"}
    status: dict[str, Any] = {"phase": "Succeeded", "completionTime": "2026-01-02T00:00:00Z", "observedGeneration": 1}
    outputs = {"status": status | {"outputs": {"merged": merged}}}
    await world.kube.merge(QWENSFTJOBS, "team", "first", outputs, subresource="status")


async def play(line: Line, anew_at: int) -> World:
    """Play the run of `KubeletHand` with the model of another, which is created anew at that look, to its end."""
    world = World(line)
    world.plane.objects.pop((QWENSFTJOBS.plural, *KEY))
    spec = SPEC | {"model": {"name": "Qwen/Qwen3-0.6B", "source": {"run": {"name": "first"}}}}
    demo = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "demo"}, "spec": spec}
    world.plane.put(QWENSFTJOBS.plural, "team", demo)
    bound = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
    world.plane.put(CLAIMS.plural, "team", {"metadata": {"name": "first-workspace"}, **bound})
    world.operator = world.new_operator()
    for look in range(150):
        if look in (1, anew_at):  # not there at first
            await create_first(world, f"{look}")
        wrote = await world.look()
        if world.over and not wrote:
            return world
        await world.kubelet.move()
        world.plane.settle()
        world.plane.now += timedelta(seconds=5)
    raise AssertionError(f"the run does not end: {world.run['status']}")


def models(world: World) -> list[tuple[str, str]]:
    """UID and digest of the model from which each attempt was made, by its ConfigMap."""
    maps = [m for m in world.plane.of(CONFIG_MAPS.plural) if m["metadata"]["name"].startswith("demo-")]
    told = [yaml.safe_load(found["data"]["run.yaml"])["model"]["mergedBy"] for found in maps]
    return [(begun["uid"], begun["digest"]) for begun in told]


def mounted(job: Manifest) -> set[str]:
    """Claims that a Job's pods mount."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def check(number: int | None, how: Cut, anew_at: int) -> None:
    """Cut that write, create the other run anew at that look: every attempt is made from what the status tells."""
    world = asyncio.run(play(Line(cut_at=number, how=how), anew_at))
    chosen = world.run["status"]["sourceRun"]
    assert world.run["status"]["phase"] == "Succeeded"
    assert set(models(world)) == {(chosen["uid"], chosen["digest"])}
    assert all(mounted(job) == {"demo-workspace", "first-workspace"} for job in world.plane.of(JOBS.plural))
    assert set(world.plane.created.values()) == {1}, "one Job for each attempt"


@pytest.mark.parametrize("how", Cut, ids=lambda how: how.name)
@pytest.mark.parametrize("number", range(FIRST_WRITES))
def test_whatever_write_is_cut_all_attempts_begin_with_one_model(number: int, how: Cut) -> None:
    check(number, how, anew_at=2 + number % LOOKS)


@pytest.mark.parametrize("look", [*range(2, 2 + LOOKS), 12, 20])
def test_whenever_the_other_run_is_created_anew_all_attempts_begin_with_one_model(look: int) -> None:
    check(None, Cut.UNSENT, anew_at=look)
