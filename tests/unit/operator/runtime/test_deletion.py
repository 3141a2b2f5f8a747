"""A run that is being deleted: what holds it is told once, and nothing is made or deleted for it."""

from typing import Any

import pytest

from qwensft_operator.runtime.kube import (
    EVENTS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    ConflictError,
    InvalidError,
    KubeError,
    Manifest,
)

from .fakes import job_manifest
from .observing import child, pod
from .reconciling import KEY, World

LONG_AGO = "2025-12-31T00:00:00Z"
HOLDER = "kueue.x-k8s.io/resource-in-use"


def deleted(*finalizers: str, since: str = LONG_AGO, **status: Any) -> Manifest:
    run = job_manifest()
    run["metadata"] |= {"deletionTimestamp": since, "finalizers": list(finalizers)}
    return run | {"status": status}


@pytest.fixture(params=[True, False], ids=["watched", "read"])
def world(request: pytest.FixtureRequest) -> World:
    """A run that was deleted in the foreground, with a Job that something else keeps."""
    world = World(watching=request.param)
    world.kube.put(QWENSFTJOBS, "team", deleted("foregroundDeletion"))
    job = child("train", 1)
    job["metadata"] |= {"deletionTimestamp": LONG_AGO, "finalizers": ["foregroundDeletion", HOLDER]}
    world.kube.put(JOBS, "team", job)
    return world


def said(world: World) -> list[str]:
    """The messages of the events about the deletion."""
    events = [world.kube.objects["events", "team", name] for name in sorted(world.kube.named(EVENTS))]
    return [event["message"] for event in events if (event["type"], event["reason"]) == ("Warning", "DeletionHeld")]


async def test_what_holds_it_is_told_once_and_looked_for_again_a_minute_later(world: World) -> None:
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert [HOLDER in message and "job demo-train-1" in message for message in said(world)] == [True]
    assert {c["reason"] for c in world.run["status"]["conditions"]} == {"DeletionHeld"}
    assert world.timers.waits == [60]
    world.kube.calls.clear()
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.writes() == [], "the same is said again"


async def test_what_holds_it_next_is_told_too(world: World) -> None:
    await world.reconciler.handle(KEY)
    world.kube.remove(JOBS, "team", "demo-train-1")
    await world.reconciler.handle(KEY)
    assert len(said(world)) == 2
    assert any("garbage collector" in message for message in said(world))


async def test_another_operator_says_no_more_than_the_first(world: World) -> None:
    await world.reconciler.handle(KEY)
    before = said(world)
    second = World(world.kube)
    await second.reconciler.handle(KEY)
    assert said(world) == before
    assert ("patch/status", "qwensftjobs") not in second.writes()[2:]


async def test_pods_of_its_jobs_are_looked_at(world: World) -> None:
    world.kube.remove(JOBS, "team", "demo-train-1")
    gone = pod("demo-train-1-0", "train")
    gone["metadata"] |= {"deletionTimestamp": LONG_AGO}
    gone["spec"] = {"nodeName": "node-7"}
    world.kube.put(PODS, "team", gone)
    await world.reconciler.handle(KEY)
    assert "kubectl get node node-7" in said(world)[0]


async def test_what_another_run_of_the_name_has_left_holds_nothing(world: World) -> None:
    world.kube.remove(JOBS, "team", "demo-train-1")
    job = child("train", 1, owner="another")
    job["metadata"] |= {"deletionTimestamp": LONG_AGO, "finalizers": [HOLDER]}
    world.kube.put(JOBS, "team", job)
    await world.reconciler.handle(KEY)
    assert HOLDER not in said(world)[0]


async def test_a_deletion_that_has_just_begun_is_no_news() -> None:
    world = World(watching=True)
    world.kube.put(QWENSFTJOBS, "team", deleted("x/y", since="2026-01-01T00:00:00Z"))
    await world.reconciler.handle(KEY)
    assert (world.writes(), world.timers.waits) == ([], [30])


async def test_a_run_that_has_ended_is_told_of_by_an_event_alone() -> None:
    world = World(watching=True)
    world.kube.put(QWENSFTJOBS, "team", deleted("x/y", completionTime=LONG_AGO, phase="Succeeded"))
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.writes() == [("create", "events")]


async def test_a_spec_that_nobody_understands_is_seen_off_as_well() -> None:
    world = World(watching=True)
    run = deleted("x/y")
    run["spec"]["colour"] = "red"
    world.kube.put(QWENSFTJOBS, "team", run)
    await world.reconciler.handle(KEY)
    assert "x/y" in said(world)[0]


@pytest.mark.parametrize(
    ("error", "events"),
    [(InvalidError(422, "Invalid", "status.phase"), 1), (ConflictError(409, "Conflict", "it has changed"), 0)],
)
async def test_a_status_that_cannot_be_written_leaves_the_event(world: World, error: KubeError, events: int) -> None:
    world.kube.refuse["patch/status", "qwensftjobs"] = error
    await world.reconciler.handle(KEY)
    assert len(said(world)) == events
    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert len(said(world)) == 1


async def test_it_is_forgotten_when_it_is_gone(world: World) -> None:
    await world.reconciler.handle(KEY)
    world.kube.remove(QWENSFTJOBS, "team", "demo")
    await world.reconciler.handle(KEY)
    world.kube.put(QWENSFTJOBS, "team", deleted("foregroundDeletion"))
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert ("patch/status", "qwensftjobs") in world.writes(), "a later run of the name is another one"
