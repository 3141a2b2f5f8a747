"""A run begins with another's model or adapter, of which there are several under one name: all attempts with one.

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

# What is begun with: how the spec names it, where the status has it, where run.yaml, and which stages mount the claim.
BEGINNINGS: dict[str, tuple[dict[str, Any], str, str, set[str]]] = {
    "model": ({"source": {"run": {"name": "first"}}}, "sourceRun", "mergedBy", {"prepare", "train", "merge"}),
    "adapter": ({"adapter": {"run": {"name": "first"}}}, "adapterRun", "adapter", {"prepare"}),
}
FIRST_WRITES = 8  # choice and its Event; claim, ConfigMap, Job, status, Event of prepare; and more
LOOKS = 6  # in which the other run is created anew


async def create_first(world: World, digest: str) -> None:
    """Create the first run, anew if there is one, and let it succeed."""
    world.plane.objects.pop((QWENSFTJOBS.plural, "team", "first"), None)
    stored = world.plane.put(QWENSFTJOBS.plural, "team", {"metadata": {"name": "first"}, "spec": SPEC})
    directory = f"first-{stored['metadata']['uid'][:8]}"
    merged = {"claimName": "first-workspace", "path": f"{directory}/merged", "digest": f"sha256:{digest}"}
    adapter = merged | {"path": f"{directory}/train/1"}
    status: dict[str, Any] = {"phase": "Succeeded", "completionTime": "2026-01-02T00:00:00Z", "observedGeneration": 1}
    outputs = {"status": status | {"outputs": {"merged": merged, "adapter": adapter}}}
    await world.kube.merge(QWENSFTJOBS, "team", "first", outputs, subresource="status")


async def play(line: Line, anew_at: int, begins: dict[str, Any]) -> World:
    """Play the run of `KubeletHand` with the result of another, which is created anew at that look, to its end."""
    world = World(line)
    world.plane.objects.pop((QWENSFTJOBS.plural, *KEY))
    spec = SPEC | {"model": {"name": "Qwen/Qwen3-0.6B"} | begins}
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


def begun_with(world: World, key: str) -> list[tuple[str, str]]:
    """UID and digest of what each attempt was made from, by its ConfigMap."""
    maps = [m for m in world.plane.of(CONFIG_MAPS.plural) if m["metadata"]["name"].startswith("demo-")]
    told = [yaml.safe_load(found["data"]["run.yaml"])["model"][key] for found in maps]
    return [(begun["uid"], begun["digest"]) for begun in told]


def mounted(job: Manifest) -> set[str]:
    """Claims that a Job's pods mount."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def check(number: int | None, how: Cut, anew_at: int, beginning: str) -> None:
    """Cut that write, create the other run anew at that look: every attempt is made from what the status tells."""
    begins, in_status, in_run, stages = BEGINNINGS[beginning]
    world = asyncio.run(play(Line(cut_at=number, how=how), anew_at, begins))
    chosen = world.run["status"][in_status]
    assert world.run["status"]["phase"] == "Succeeded"
    assert set(begun_with(world, in_run)) == {(chosen["uid"], chosen["digest"])}
    for job in world.plane.of(JOBS.plural):
        stage = job["metadata"]["name"].split("-")[1]
        assert mounted(job) == {"demo-workspace"} | ({"first-workspace"} if stage in stages else set())
    assert set(world.plane.created.values()) == {1}, "one Job for each attempt"


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("how", Cut, ids=lambda how: how.name)
@pytest.mark.parametrize("number", range(FIRST_WRITES))
def test_whatever_write_is_cut_all_attempts_begin_with_one(number: int, how: Cut, beginning: str) -> None:
    check(number, how, 2 + number % LOOKS, beginning)


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("look", [*range(2, 2 + LOOKS), 12, 20])
def test_whenever_the_other_run_is_created_anew_all_attempts_begin_with_one(look: int, beginning: str) -> None:
    check(None, Cut.UNSENT, look, beginning)
