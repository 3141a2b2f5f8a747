"""Before an attempt starts it is read live what else of the run's name has not ended, whatever was taken off it."""

from typing import Any

import pytest

from qwensft_operator.runtime.kube import JOBS, PODS, QWENSFTJOBS, ForbiddenError, Manifest

from .fakes import job_manifest
from .observing import LABELS, UID, World, child, training
from .reconciling import KEY
from .reconciling import World as Loop

OTHERS = {"team": "web"}
JOB_NAME = "batch.kubernetes.io/job-name"


def a_pod(
    job: str = "demo-train-1", owner: str | None = "job-uid", *, phase: str = "Running", **labels: str
) -> Manifest:
    """A pod as the Job controller makes it; labels that are "" are left out."""
    given = {**LABELS, JOB_NAME: job, "batch.kubernetes.io/controller-uid": owner or "", **labels}
    meta: dict[str, Any] = {"name": f"{job}-0-abcde", "labels": {key: value for key, value in given.items() if value}}
    if owner is not None:
        meta["ownerReferences"] = [{"kind": "Job", "name": job, "uid": owner, "controller": True}]
    return {"metadata": meta, "spec": {"nodeName": "n1"}, "status": {"phase": phase}}


@pytest.fixture
def world() -> World:
    """A run whose training Job, named by its status, is not there."""
    world = World()
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    return world


@pytest.mark.parametrize(
    ("pod", "named"),
    [
        (a_pod(), True),
        (a_pod(owner=None), True),
        (a_pod(**{"qwensft.io/job": ""}), True),
        (a_pod(**{JOB_NAME: ""}), True),
        (a_pod("demo-merge-7", "other", **{"qwensft.io/job": "web"}), True),
        (a_pod(phase="Pending"), True),
        (a_pod(phase="Succeeded"), False),
        (a_pod(phase="Failed"), False),
        (a_pod("demo2-train-1", "other", **{"qwensft.io/job": "demo2"}), False),
        (a_pod("web", "other", **{"qwensft.io/job": ""}), False),
    ],
    ids=[
        "of a deleted Job",
        "without owner",
        "without our label",
        "without Kubernetes' label",
        "with another run's label",
        "not started yet",
        "ended well",
        "ended badly",
        "of another run",
        "of another Job",
    ],
)
async def test_a_pod_that_has_not_ended_is_found_by_any_label_that_it_has(
    world: World, pod: Manifest, *, named: bool
) -> None:
    world.kube.put(PODS, "team", pod)
    found = (await world.look(leftovers=True)).leftovers
    assert found is not None
    assert [leftover.name for leftover in found] == [pod["metadata"]["name"]] * named


async def test_where_nothing_is_left_two_lists_of_metadata_are_all(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    await world.look(leftovers=True)
    asked = [name for verb, plural, name in world.kube.calls if (verb, plural) == ("list", "pods")]
    assert len(asked) == 2
    assert asked[0] == "qwensft.io/job=demo"
    assert asked[1].startswith(f"{JOB_NAME} in (demo-prepare-")
    assert len(asked[1]) < 2000


async def test_under_a_running_attempt_and_a_suspended_run_nothing_is_looked_for(world: World) -> None:
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(PODS, "team", a_pod("demo-prepare-1", "other"))
    assert (await world.observe()).observed.known_leftovers == ()
    held = job_manifest(runPolicy={"suspend": True}) | training()
    world.kube.put(QWENSFTJOBS, "team", held)
    assert (await world.observe()).observed.known_leftovers == ()


async def test_watches_tell_of_pods_that_have_both_labels_and_have_not_ended(world: World) -> None:
    for number, pod in enumerate((a_pod(), a_pod(phase="Failed"), a_pod(**{"qwensft.io/job": ""}))):
        pod["metadata"]["name"] = f"pod-{number}"
        world.kube.put(PODS, "team", pod)
    observed = (await world.observe()).observed
    assert [(leftover.name, leftover.stopping) for leftover in observed.known_leftovers] == [("pod-0", True)]
    assert observed.known_leftovers[0].view is not None
    assert world.reads() == {("get", "jobs"), ("get", "persistentvolumeclaims")}, (
        "what the status names and nobody knows"
    )
    assert [leftover.name for leftover in (await world.look(leftovers=True)).leftovers or ()] == ["pod-0", "pod-2"]
    assert (await world.observe(live=True)).observed.known_leftovers == (), "after a failed pass they are read live"


async def test_a_job_without_our_labels_is_recognised_by_its_owner(world: World) -> None:
    bare = child("train", 1, active=1)
    bare["metadata"]["labels"] = OTHERS
    world.kube.put(JOBS, "team", bare)
    world.kube.put(PODS, "team", a_pod())
    found = (await world.look(leftovers=True)).leftovers or ()
    assert [(leftover.kind, leftover.hidden) for leftover in found] == [("Job", True), ("pod", True)]


async def test_a_few_pods_are_read_whole_those_first_that_should_be_gone(world: World) -> None:
    for number in range(9):
        pod = a_pod()
        pod["metadata"] |= {"name": f"pod-{number}"} | (
            {"deletionTimestamp": "2026-01-01T00:00:00Z"} if number > 6 else {}
        )
        world.kube.put(PODS, "team", pod)
    found = (await world.look(leftovers=True)).leftovers or ()
    assert len(found) == 9
    assert [leftover.name for leftover in found if leftover.view] == ["pod-0", "pod-1", "pod-7", "pod-8"]


async def test_what_is_left_must_be_read(world: World) -> None:
    world.kube.refuse["list", "pods"] = ForbiddenError(403, "Forbidden", "no")
    with pytest.raises(ForbiddenError):
        await world.look(leftovers=True)


async def test_a_run_starts_by_itself_when_the_last_pod_of_an_earlier_run_has_ended() -> None:
    loop = Loop()
    loop.kube.put(QWENSFTJOBS, "team", job_manifest())
    loop.kube.put(PODS, "team", a_pod(**{"qwensft.io/job-uid": "99999999-old"}))
    await loop.reconciler.handle(KEY)
    assert loop.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert loop.run["status"]["conditions"][0]["reason"] == "WaitingForPreviousRun"
    assert loop.timers.waits == [15]
    loop.kube.put(PODS, "team", a_pod(phase="Failed", **{"qwensft.io/job-uid": "99999999-old"}))
    await loop.reconciler.handle(KEY)
    assert loop.kube.named(JOBS) == {"demo-prepare-1"}


async def test_the_uid_decides_and_not_the_name() -> None:
    """A pod of the Job that the pass has just made, met again after a crash, is the attempt's own."""
    loop = Loop()
    loop.kube.put(QWENSFTJOBS, "team", job_manifest())
    await loop.reconciler.handle(KEY)
    made = loop.kube.objects["jobs", "team", "demo-prepare-1"]
    loop.run["status"] = {}
    loop.kube.put(PODS, "team", a_pod("demo-prepare-1", made["metadata"]["uid"], **{"qwensft.io/job-uid": UID}))
    await loop.reconciler.handle(KEY)
    assert loop.run["status"]["conditions"][0]["reason"] == "PodsStarting"
