"""One pass over a run: what is written, in which order, and when the run is looked at again."""

import pytest

from qwensft.api.v1alpha1 import parse_job
from qwensft_operator.plan.types import EnsureService
from qwensft_operator.runtime.kube import (
    CONFIG_MAPS,
    JOBS,
    QWENSFTJOBS,
    TransientError,
)

from .fakes import job_manifest
from .reconciling import KEY, World, reasons, watched_world


@pytest.fixture
def world() -> World:
    world = World()
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    return world


async def test_a_new_run_gets_its_objects_then_its_status_then_an_event(world: World) -> None:
    await world.reconciler.handle(KEY)
    assert world.writes() == [
        ("create", "persistentvolumeclaims"),
        ("create", "configmaps"),
        ("create", "jobs"),
        ("patch/status", "qwensftjobs"),
        ("create", "events"),
    ]
    assert world.run["status"]["phase"] == "Preparing"
    assert world.run["status"]["stages"]["prepare"]["jobName"] == "demo-prepare-1"
    assert world.queue.failures(KEY) == 0


async def test_a_new_run_that_is_watched_costs_four_reads_and_five_writes_until_it_is_told() -> None:
    world = watched_world()
    await world.reconciler.handle(KEY)
    reads = [(verb, plural) for verb, plural, _ in world.kube.calls if verb in ("get", "list")]
    assert sorted(reads) == [
        ("get", "configmaps"),
        ("get", "qwensftjobs"),
        ("list", "nodes"),  # every five minutes, for all runs
        ("list", "pods"),
        ("list", "pods"),
    ]
    assert len(world.writes()) == 5
    world.kube.calls.clear()
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.kube.calls == [], "what was written is known, and nothing else has to be said"


async def test_a_run_that_was_edited_since_it_was_looked_at_starts_nothing_and_is_looked_at_anew() -> None:
    world = watched_world()
    world.kube.store = None  # the watch is late
    edited = world.run | {"spec": world.run["spec"] | {"runPolicy": {"suspend": True}}}
    world.kube.put(QWENSFTJOBS, "team", edited)
    await world.reconciler.handle(KEY)
    assert world.writes() == []
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.run["status"]["phase"] == "Suspended"


async def test_a_run_that_ends_is_forgotten_but_for_its_key_when_nothing_is_left_to_do() -> None:
    world = watched_world()
    await world.reconciler.handle(KEY)
    failed = world.kube.objects["jobs", "team", "demo-prepare-1"]
    failed["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}
    world.run["spec"]["prepare"] = {"retries": 0}
    world.run["spec"]["runPolicy"] = {"ttlSecondsAfterFinished": 3600}
    world.kube.put(QWENSFTJOBS, "team", world.run)
    world.kube.put(JOBS, "team", failed)
    await world.reconciler.handle(KEY)
    assert world.run["status"]["phase"] == "Failed"
    assert not world.store.is_over(KEY), "its Jobs are to be deleted in an hour"
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}

    world.run["spec"]["runPolicy"] = {"ttlSecondsAfterFinished": 0}
    world.kube.put(QWENSFTJOBS, "team", world.run)
    for _ in range(2):
        await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == set()
    assert world.store.is_over(KEY)
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.kube.calls == []


async def test_a_config_map_that_is_brought_back_is_not_kept_in_memory(world: World) -> None:
    await world.reconciler.handle(KEY)
    world.kube.objects["jobs", "team", "demo-prepare-1"]["status"] = {"active": 1, "ready": 1}
    world.kube.remove(CONFIG_MAPS, "team", "demo-prepare-1")
    await world.reconciler.handle(KEY)
    assert "demo-prepare-1" in world.kube.named(CONFIG_MAPS)
    assert await world.executor.execute(parse_job(world.run), EnsureService()) is None, "a later pass knows it still"


async def test_a_run_waits_for_the_config_map_of_its_rows(world: World) -> None:
    del world.kube.objects["configmaps", "team", "facts"]
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.run["status"]["phase"] == "Pending"
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}


async def test_a_pass_that_finds_nothing_new_writes_nothing(world: World) -> None:
    await world.reconciler.handle(KEY)
    await world.reconciler.handle(KEY)
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.writes() == []


@pytest.mark.parametrize("crash_at", range(5))
async def test_a_crash_between_any_two_writes_is_made_good(world: World, crash_at: int) -> None:
    whole = World()
    whole.kube.put(QWENSFTJOBS, "team", job_manifest())
    await whole.reconciler.handle(KEY)
    verb, plural = whole.writes()[crash_at]

    world.kube.refuse[verb, plural] = TransientError(0, "ServerDisconnectedError", "the process died here")
    await world.reconciler.handle(KEY)
    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}
    assert world.run["status"]["phase"] == "Preparing"
    assert world.run["status"]["stages"]["prepare"] | {"startTime": ""} == {
        "jobName": "demo-prepare-1",
        "attempt": 1,
        "startTime": "",
    }


async def test_a_deleted_run_is_forgotten(world: World) -> None:
    world.queue.add_rate_limited(KEY)
    del world.kube.objects["qwensftjobs", "team", "demo"]
    await world.reconciler.handle(KEY)
    assert world.queue.failures(KEY) == 0
    assert world.writes() == []


async def test_a_spec_of_another_version_stalls_the_run_once(world: World) -> None:
    world.run["spec"]["colour"] = "red"
    await world.reconciler.handle(KEY)
    stalled = next(c for c in world.run["status"]["conditions"] if c["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.writes() == []


async def test_a_rule_that_is_newer_than_a_run_stalls_it_only_before_it_has_begun(world: World) -> None:
    unbegun = World()
    unbegun.kube.put(QWENSFTJOBS, "team", job_manifest())
    await world.reconciler.handle(KEY)
    for one in (world, unbegun):
        one.run["spec"]["extraArguments"] = {"load_best_model_at_end": "true"}
        await one.reconciler.handle(KEY)
    assert (reasons(unbegun), unbegun.run["status"]["phase"]) == ({"InvalidSpec"}, "Pending")
    assert unbegun.kube.named(JOBS) == set()
    assert (reasons(world), world.run["status"]["phase"]) == ({"PodsStarting"}, "Preparing")

    world.run["spec"]["colour"] = "red"
    await world.reconciler.handle(KEY)
    assert (reasons(world), world.run["status"]["phase"]) == ({"InvalidSpec"}, "Pending")
    del world.run["spec"]["colour"]
    await world.reconciler.handle(KEY)
    assert (reasons(world), world.run["status"]["phase"]) == ({"PodsStarting"}, "Preparing")


async def test_a_job_that_another_installation_has_made_is_told_and_its_own_is_signed(world: World) -> None:
    await world.reconciler.handle(KEY)
    job = world.kube.objects["jobs", "team", "demo-prepare-1"]
    assert job["metadata"]["annotations"]["qwensft.io/installation"] == "system/one"
    job["metadata"]["annotations"]["qwensft.io/installation"] = "other/two"
    job["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    for _ in range(2):
        await world.reconciler.handle(KEY)
    told = [o["reason"] for (plural, _, _), o in world.kube.objects.items() if plural == "events"]
    assert told.count("OperatorsOverlap") == 1
    assert ("patch", "events") not in world.writes()


async def test_a_spec_of_another_version_leaves_a_finished_run_as_it_ended(world: World) -> None:
    world.run["spec"]["colour"] = "red"
    world.run["status"] = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    await world.reconciler.handle(KEY)
    assert world.writes() == []


async def test_what_a_newer_version_or_somebody_else_wrote_into_the_status_is_kept(world: World) -> None:
    said = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    approved = {"type": "Approved", "by": "me"} | said
    world.run["status"] = {
        "phase": "Evaluating",
        "quality": {"bleu": 0.4},
        "conditions": [approved, {"type": "Succeeded"} | said],
        "stages": {"evaluate": {"attempt": 2}, "prepare": {"node": "n1"}},
    }
    await world.reconciler.handle(KEY)
    status = world.run["status"]
    assert (status["phase"], status["quality"]) == ("Preparing", {"bleu": 0.4})
    assert [c["type"] for c in status["conditions"][:2]] == ["Approved", "Succeeded"]
    assert (status["conditions"][0], status["conditions"][1]["reason"]) == (approved, "PodsStarting")
    assert status["stages"]["evaluate"] == {"attempt": 2}
    assert status["stages"]["prepare"] | {"startTime": ""} == {
        "node": "n1",
        "jobName": "demo-prepare-1",
        "attempt": 1,
        "startTime": "",
    }


async def test_a_training_that_will_not_fit_is_warned_of_once(world: World) -> None:
    world.run["spec"]["worker"] = {"accelerator": {"memory": "4Gi"}}
    for _ in range(3):
        await world.reconciler.handle(KEY)
    warnings = [
        manifest["message"]
        for (plural, _, _), manifest in world.kube.objects.items()
        if plural == "events" and manifest["reason"] == "EstimatedOutOfMemory"
    ]
    assert warnings == [world.run["status"]["estimate"]["message"]]
    assert [verb for verb, plural in world.writes() if (verb, plural) == ("patch", "events")] == []
    assert world.run["status"]["estimate"]["fits"] is False
