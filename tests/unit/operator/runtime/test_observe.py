"""What is looked at for a decision: enough, from the store where that may be, and no more than this run needs now."""

import asyncio
from typing import Any

import pytest

from qwensft.api.v1alpha1 import InvalidJobError, parse_worker_defaults
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    NODES,
    PODS,
    QWENSFTJOBS,
    SERVICES,
    ConflictError,
    ForbiddenError,
    Manifest,
    NotFoundError,
)

from .fakes import job_manifest
from .observing import KEY, LABELS, UID, World, child, claim, pod, training


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_that_does_not_exist_is_none_of_our_business(world: World) -> None:
    assert await world.observer.manifest(KEY) is None


async def test_a_document_from_another_version_is_reported_by_field(world: World) -> None:
    manifest = job_manifest()
    manifest["spec"]["model"]["colour"] = "red"
    world.kube.put(QWENSFTJOBS, "team", manifest)
    with pytest.raises(InvalidJobError, match=r"spec\.model\.colour"):
        await world.observe()


AGAINST_RULES: dict[str, dict[str, Any]] = {
    "neatPacking": {
        "model": {"name": "Qwen/Qwen3.5-4B"},
        "training": {"packing": True, "neatPacking": True},
    },
    "always thinks": {"model": {"name": "Qwen/Qwen3-4B-Thinking-2507", "enableThinking": False}},
    "Qwen3.8": {"model": {"name": "Qwen/Qwen3.8-27B"}},
    "load_best_model_at_end": {"extraArguments": {"load_best_model_at_end": "true"}},
}
"""Specs that were admitted before there was a rule against them, by a word of its message."""


@pytest.mark.parametrize("rule", AGAINST_RULES)
async def test_a_run_that_has_begun_is_not_judged_by_newer_rules(
    world: World, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = AGAINST_RULES[rule]
    caplog.set_level("DEBUG", "qwensft_operator")
    world.kube.put(QWENSFTJOBS, "team", job_manifest(**spec) | training())
    assert (await world.observe()).observed.job.spec.document().items() >= spec.items()
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("goes on as it was admitted")
    assert rule in said


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"observedGeneration": -1},
        {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z", "stages": {}},
        {"phase": "Suspended", "stages": {"prepare": {}}},
    ],
)
@pytest.mark.parametrize("rule", AGAINST_RULES)
async def test_a_run_that_has_not_begun_is_judged_by_the_rules(world: World, rule: str, status: dict[str, Any]) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest(**AGAINST_RULES[rule]) | {"status": status})
    with pytest.raises(InvalidJobError, match=rule):
        await world.observe()


async def test_a_shape_that_is_unknown_is_reported_of_a_run_that_has_begun_too(world: World) -> None:
    spec = {**AGAINST_RULES["Qwen3.8"], "training": {"seed": "42"}}
    world.kube.put(QWENSFTJOBS, "team", job_manifest(**spec) | training())
    with pytest.raises(InvalidJobError, match=r"^spec\.training\.seed: [^;]*$"):
        await world.observe()


async def test_children_of_a_deleted_namesake_are_not_ours(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, owner="00000000-0000"))
    assert (await world.observe()).observed.children == ()


async def test_a_run_that_goes_on_as_it_did_costs_no_request(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest(distribution={"nodes": 2}) | training())
    world.kube.put(JOBS, "team", child("train", 1, active=2, ready=1))
    for resource, name in ((SERVICES, "demo-train"), (CONFIG_MAPS, "demo-train-1")):
        metadata = {"name": name, "labels": LABELS, "ownerReferences": [{"uid": UID}]}
        world.kube.put(resource, "team", {"metadata": metadata})
    world.kube.put(CLAIMS, "team", claim(labels=LABELS) | {"status": {"phase": "Bound"}})
    world.kube.put(PODS, "team", pod(phase="Running"))
    world.kube.put(PODS, "team", pod(index="1", phase="Pending"))
    observed = (await world.observe()).observed
    assert world.kube.calls == []
    assert [view.phase for view in observed.pods] == ["Running", "Pending"]
    assert (observed.service_exists, observed.claim_exists) == (True, True)
    assert observed.config_maps == {"demo-train-1"}


async def test_after_a_failure_everything_is_read_live(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1))
    await world.observe(live=True)
    assert world.reads() >= {
        ("get", "qwensftjobs"),
        ("list", "jobs"),
        ("list", "pods"),
        ("get", "services"),
        ("get", "configmaps"),
    }


@pytest.mark.parametrize("end", ["Complete", "Failed"])
async def test_the_last_words_of_pods_are_read_live(world: World, end: str) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, conditions=[{"type": end, "status": "True"}]))
    stale = world.kube.put(PODS, "team", pod(phase="Running"))
    world.kube.store = None  # from here on, the watch is late
    world.kube.put(PODS, "team", stale | {"status": {"phase": "Succeeded"}})
    assert [view.phase for view in (await world.observe()).observed.pods] == ["Succeeded"]
    assert ("list", "pods") in world.reads()


async def test_a_job_that_seems_to_be_lost_is_looked_for_once_more(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    assert (await world.observe()).observed.children == ()
    assert ("get", "jobs", "demo-train-1") in world.kube.calls
    world.kube.store = None  # the watch is late
    world.kube.put(JOBS, "team", child("train", 1, active=1))
    assert [c.name for c in (await world.observe()).observed.children] == ["demo-train-1"]


async def test_of_a_run_that_goes_on_after_its_end_the_children_are_read_again(world: World) -> None:
    over = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    world.kube.put(JOBS, "team", child("train", 1, conditions=[{"type": "Complete", "status": "True"}]))
    run = world.kube.put(QWENSFTJOBS, "team", job_manifest() | {"status": over})
    assert world.store.is_over(KEY)
    assert world.store.children(JOBS, KEY) == []
    run["metadata"]["generation"] = 2
    world.kube.put(QWENSFTJOBS, "team", run)
    assert not world.store.is_over(KEY)
    assert [c.name for c in (await world.observe()).observed.children] == ["demo-train-1"]
    world.kube.calls.clear()
    await world.observe()
    assert world.kube.calls == []


async def test_of_a_run_with_the_name_of_a_deleted_one_the_children_are_read_once(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest(uid="00000000-0000"))
    world.kube.remove(QWENSFTJOBS, "team", "demo")
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    await world.observe()
    assert ("list", "jobs") in world.reads()
    world.kube.calls.clear()
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    await world.observe()
    assert ("list", "jobs") not in world.reads()


async def test_before_what_cannot_be_taken_back_the_run_must_still_be_what_was_looked_at(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    observation = await world.observe()
    await world.observer.confirm(observation)
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    with pytest.raises(ConflictError, match="demo has changed"):
        await world.observer.confirm(observation)
    world.kube.remove(QWENSFTJOBS, "team", "demo")
    with pytest.raises(NotFoundError):
        await world.observer.confirm(observation)


async def test_a_new_run_sees_what_exists_already(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    own = {"name": "demo-prepare-1", "labels": LABELS, "ownerReferences": [{"uid": UID}]}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": own})
    world.kube.put(CLAIMS, "team", claim(labels=LABELS))
    observed = (await world.observe()).observed
    assert observed.config_maps == {"demo-prepare-1"}
    assert observed.claim_exists
    assert not observed.service_exists


async def test_the_config_maps_of_all_attempts_are_known_without_a_request(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    own: Manifest = {"labels": LABELS, "ownerReferences": [{"uid": UID}]}
    for name in ("demo-prepare-1", "demo-train-1"):
        world.kube.put(CONFIG_MAPS, "team", {"metadata": own | {"name": name}})
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "demo-train-7", "labels": LABELS}})
    assert (await world.observe()).observed.config_maps == {"demo-prepare-1", "demo-train-1"}
    assert not [call for call in world.kube.calls if call[1] == "configmaps"]


async def test_what_a_live_read_does_not_find_of_the_attempt_is_gone_whatever_the_store_knows(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1))
    own = {"name": "demo-train-1", "labels": LABELS, "ownerReferences": [{"uid": UID}]}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": own})
    world.kube.store = None  # from here on, the watch is late
    world.kube.remove(CONFIG_MAPS, "team", "demo-train-1")
    assert (await world.observe(live=True)).observed.config_maps == frozenset()


async def test_a_config_map_tells_what_it_was_made_from(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    own: Manifest = {"name": "demo-prepare-1", "labels": LABELS, "ownerReferences": [{"uid": UID}]}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": own | {"annotations": {"qwensft.io/made-from": "v1:ab"}}})
    assert (await world.observe()).observed.config_map_from == "v1:ab"
    world.kube.put(CONFIG_MAPS, "team", {"metadata": own})
    assert (await world.observe()).observed.config_map_from == ""


async def test_objects_of_strangers_do_not_count_so_that_creating_ours_tells_of_the_conflict(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(SERVICES, "team", {"metadata": {"name": "demo-train"}})
    world.kube.put(CLAIMS, "team", claim())
    left = {"qwensft.io/configuration": "sha256:of-an-earlier-run"}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "demo-train-1", "annotations": left}})
    observed = (await world.observe()).observed
    assert not observed.service_exists
    assert not observed.claim_exists
    assert (observed.config_maps, observed.configuration) == (frozenset(), None)


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ({"active": 1, "ready": 1}, False),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, True),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, True),
    ],
    ids=["runs", "is complete: the next stage follows", "has failed: the next attempt follows"],
)
async def test_the_claim_is_looked_at_unless_a_job_runs_on_it(world: World, status: dict[str, Any], read: bool) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, **status))
    world.kube.put(CLAIMS, "team", claim(labels=LABELS))
    assert (await world.observe()).observed.claim_exists == read


async def test_every_claim_of_the_stage_is_read_and_a_missing_one_is_left_out(world: World) -> None:
    volume = {"volume": {"claimName": "data", "path": "a.json"}}
    spec: dict[str, Any] = {
        "model": {"name": "Qwen/Qwen3-8B", "source": {"volume": {"claimName": "models"}}},
        "datasets": [{"name": "facts", "format": "alpaca", "source": volume}],
    }
    world.kube.put(QWENSFTJOBS, "team", job_manifest(**spec))
    bound = {"spec": {"accessModes": ["ReadOnlyMany"]}, "status": {"phase": "Bound"}}
    world.kube.put(CLAIMS, "team", {"metadata": {"name": "data"}, **bound})
    observed = (await world.observe()).observed
    asked = {name for verb, plural, name in world.kube.calls if plural == "persistentvolumeclaims"}
    assert asked == {"models", "data"}, "the run's own is made, and if it exists the watch tells"
    assert [(view.name, view.phase) for view in observed.claims or ()] == [("data", "Bound")]
    assert not observed.claim_exists
    assert ("list", "events") not in world.reads()


async def test_the_config_maps_that_a_spec_names_are_read_with_their_keys_when_they_are_asked_for(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    assert (await world.observe()).observed.named_config_maps is None
    assert (await world.look("facts")).named_config_maps == {}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"a.json": "[]"}})
    assert (await world.look("facts")).named_config_maps == {"facts": frozenset({"a.json"})}


async def test_nodes_are_read_while_they_can_tell_whether_the_training_fits(world: World) -> None:
    world.kube.put(NODES, "", {"metadata": {"name": "gpu-0", "labels": {"nvidia.com/gpu.memory": "81920"}}})
    world.kube.put(NODES, "", {"metadata": {"name": "cpu-0", "labels": {}}})
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    observed = (await world.observe()).observed
    assert [(node.name, node.labels) for node in observed.nodes] == [("gpu-0", {"nvidia.com/gpu.memory": "81920"})]

    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.calls.clear()
    assert (await world.observe()).observed.nodes == ()
    assert ("list", "nodes") not in world.reads()


async def test_the_estimate_goes_by_the_defaults_with_which_the_run_has_begun(world: World) -> None:
    world.kube.put(NODES, "", {"metadata": {"name": "gpu-0", "labels": {"nvidia.com/gpu.memory": "81920"}}})
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    today = parse_worker_defaults('{"nodeSelector": {"pool": "new"}}')
    world.observer._worker_defaults = today
    assert (await world.observe()).observed.worker_defaults == today, "nothing has begun"

    worker = '{"nodeSelector": {"pool": "old"}}'
    owner = {"kind": "QwenSFTJob", "controller": True, "uid": UID, "name": "demo"}
    meta = {"name": "demo-prepare-1", "labels": LABELS, "ownerReferences": [owner]}
    began = {"metadata": meta, "immutable": True, "data": {"worker.json": worker}}
    world.kube.put(CONFIG_MAPS, "team", began)
    world.kube.calls.clear()
    for _ in range(3):
        assert (await world.observe()).observed.worker_defaults == parse_worker_defaults(worker)
    assert world.kube.calls.count(("get", "configmaps", "demo-prepare-1")) == 1, "it cannot change"

    world.kube.remove(CONFIG_MAPS, "team", "demo-prepare-1")
    world.kube.put(CONFIG_MAPS, "team", began | {"data": {"worker.json": "{"}})
    assert (await world.observe()).observed.worker_defaults == today, "what only informs stops nothing"


async def test_what_decides_must_be_read(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    for plural in ("jobs", "pods"):
        world.kube.refuse = {("list", plural): ForbiddenError(403, "Forbidden", "no")}
        with pytest.raises(ForbiddenError):
            await world.observe(live=True)


async def test_the_time_limit_of_a_pass_holds_while_something_optional_is_read() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await BestEffort().attempt("figures", for_ever(), None)
