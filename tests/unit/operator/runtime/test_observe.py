"""What is read for a decision: enough, live, and no more than this run needs now."""

import asyncio
from typing import Any

import pytest

from qwensft.api.v1alpha1 import InvalidJobError
from qwensft_operator.plan.types import Scrape
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    NODES,
    PODS,
    QWENSFTJOBS,
    SERVICES,
    ForbiddenError,
    InvalidError,
    Manifest,
    TransientError,
)
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.observe import Observation, Observer
from qwensft_operator.runtime.scrape import PodAddresses, Scraper

from .fakes import FakeKube, job_manifest

KEY = ("team", "demo")
UID = "11111111-aaaa"
LABELS = {"qwensft.io/job": "demo"}


class FakeScraper(Scraper):
    def __init__(self, answers: dict[str, Scrape]) -> None:
        self.answers, self.asked = answers, list[str]()

    async def scrape(self, address: str) -> Scrape | None:
        self.asked.append(address)
        return self.answers.get(address)


class World:
    def __init__(self, **answers: Scrape) -> None:
        self.kube, self.addresses = FakeKube(), PodAddresses()
        self.scraper = FakeScraper({"10.0.0.1": Scrape(step=5)})
        self.observer = Observer(self.kube, self.scraper, self.addresses, Nodes(self.kube, enabled=True))

    async def observe(self) -> Observation:
        manifest = await self.observer.manifest(KEY)
        assert manifest is not None
        return await self.observer.observe(manifest)

    def reads(self) -> set[tuple[str, str]]:
        return {(verb, plural) for verb, plural, _ in self.kube.calls}


@pytest.fixture
def world() -> World:
    return World()


def claim(**metadata: Any) -> Manifest:
    return {"metadata": {"name": "demo-workspace", **metadata}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def child(stage: str, attempt: int, *, owner: str = UID, uid: str = "job-uid", **status: Any) -> Manifest:
    return {
        "metadata": {
            "name": f"demo-{stage}-{attempt}",
            "uid": uid,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": LABELS | {"qwensft.io/stage": stage, "qwensft.io/attempt": str(attempt)},
            "ownerReferences": [{"kind": "QwenSFTJob", "name": "demo", "uid": owner, "controller": True}],
        },
        "status": status,
    }


def pod(uid: str = "job-uid", index: str = "0", node: str = "", **status: Any) -> Manifest:
    labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-completion-index": index}
    metadata = {"name": f"pod-{index}", "uid": f"pod-uid-{index}", "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


def event(about: str, reason: str, message: str) -> Manifest:
    return {
        "metadata": {"name": f"{about}.{reason}"},
        "involvedObject": {"uid": about},
        "reason": reason,
        "message": message,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:05:00Z",
    }


def training(**more: Any) -> dict[str, Any]:
    prepare = {"attempt": 1, "jobName": "demo-prepare-1", "completionTime": "2026-01-01T00:00:00Z"}
    stages = {"prepare": prepare, "train": {"attempt": 1, "jobName": "demo-train-1"}}
    return {"status": {"stages": stages, **more}}


def merging() -> dict[str, Any]:
    done = {"attempt": 1, "completionTime": "2026-01-01T00:00:00Z"}
    return training(stages={"prepare": done, "train": done, "merge": {"attempt": 1, "jobName": "demo-merge-1"}})


async def test_a_run_that_does_not_exist_or_is_being_deleted_is_none_of_our_business(world: World) -> None:
    assert await world.observer.manifest(KEY) is None
    leaving = job_manifest()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.kube.put(QWENSFTJOBS, "team", leaving)
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


async def test_a_finished_run_costs_two_reads(world: World) -> None:
    status = {"status": {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}}
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | status)
    await world.observe()
    assert world.reads() == {("get", "qwensftjobs"), ("list", "jobs")}


async def test_a_new_run_sees_what_exists_already(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "demo-prepare-1", "ownerReferences": [{"uid": UID}]}})
    world.kube.put(CLAIMS, "team", claim(labels=LABELS))
    observed = (await world.observe()).observed
    assert observed.config_maps == {"demo-prepare-1"}
    assert observed.claim_exists
    assert not observed.service_exists


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


async def test_pods_and_the_reason_of_missing_ones_are_read_while_a_job_is_not_up(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    world.kube.put(PODS, "team", pod(uid="another-job"))
    observed = (await world.observe()).observed
    assert observed.pods == ()
    assert ("list", "events", "involvedObject.uid=job-uid,reason=FailedCreate") in world.kube.calls

    world.kube.calls.clear()
    world.kube.put(PODS, "team", pod(phase="Pending"))
    observed = (await world.observe()).observed
    assert [view.phase for view in observed.pods] == ["Pending"]
    assert ("list", "events") not in world.reads()


async def test_a_training_that_runs_is_scraped_at_the_address_that_the_watch_knows(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(SERVICES, "team", {"metadata": {"name": "demo-train", "ownerReferences": [{"uid": UID}]}})
    world.addresses.set("job-uid", "pod-uid", "10.0.0.1")
    observed = (await world.observe()).observed
    assert observed.scrape == Scrape(step=5)
    assert observed.service_exists
    assert ("list", "pods") not in world.reads()


async def test_an_unknown_or_outdated_address_is_looked_up(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="10.0.0.1"))
    world.kube.put(PODS, "team", pod(index="1", phase="Running", podIP="10.0.0.7"))
    world.addresses.set("job-uid", "old pod", "10.0.0.9")
    assert (await world.observe()).observed.scrape is None
    assert (await world.observe()).observed.scrape == Scrape(step=5)
    assert world.scraper.asked == ["10.0.0.9", "10.0.0.1"]


async def test_the_pod_of_a_merge_has_no_index_and_is_scraped(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | merging())
    world.kube.put(JOBS, "team", child("merge", 1, active=1, ready=1))
    merge_pod = pod(phase="Running", podIP="10.0.0.1")
    del merge_pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
    world.kube.put(PODS, "team", merge_pod)
    assert (await world.observe()).observed.scrape == Scrape(step=5)


@pytest.mark.parametrize("stage", ["train", "merge"])
async def test_an_image_that_serves_nothing_stops_no_run(world: World, unused_tcp_port: int, stage: str) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | (training() if stage == "train" else merging()))
    world.kube.put(JOBS, "team", child(stage, 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="127.0.0.1"))
    scraper = Scraper(unused_tcp_port)
    world.observer = Observer(world.kube, scraper, world.addresses, Nodes(world.kube, enabled=False))
    assert (await world.observe()).observed.scrape is None
    await scraper.close()


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
    assert (("get", "persistentvolumeclaims") in world.reads()) == read


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
    assert asked == {"demo-workspace", "models", "data"}
    assert [(view.name, view.phase) for view in observed.claims or ()] == [("data", "Bound")]
    assert not observed.claim_exists
    assert ("list", "events") not in world.reads()


async def test_the_config_maps_that_a_spec_names_are_read_with_their_keys_before_a_job_is_made(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    assert (await world.observe()).observed.named_config_maps == {}
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"a.json": "[]"}})
    assert (await world.observe()).observed.named_config_maps == {"facts": frozenset({"a.json"})}

    world.kube.put(JOBS, "team", child("prepare", 1, active=1))
    world.kube.calls.clear()
    assert (await world.observe()).observed.named_config_maps is None
    assert ("get", "configmaps", "facts") not in world.kube.calls


async def test_of_a_claim_without_a_volume_the_events_are_read(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(CLAIMS, "team", claim(uid="claim-uid", labels=LABELS) | {"status": {"phase": "Pending"}})
    world.kube.put(EVENTS, "team", event("claim-uid", "ProvisioningFailed", "no such class"))
    world.kube.put(EVENTS, "team", event("other-uid", "ProvisioningFailed", "not ours"))
    (view,) = (await world.observe()).observed.claims or ()
    assert view.trouble is not None
    assert (view.trouble.reason, view.trouble.message) == ("ProvisioningFailed", "no such class")


async def test_of_pods_whose_containers_are_not_created_the_events_are_read_but_not_of_a_whole_gang(
    world: World,
) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest(distribution={"nodes": 8}) | training())
    world.kube.put(JOBS, "team", child("train", 1, active=8))
    for index in range(8):
        world.kube.put(PODS, "team", pod(index=str(index), node="node-1" if index else "", phase="Pending"))
        world.kube.put(EVENTS, "team", event(f"pod-uid-{index}", "FailedMount", f"volume {index} is busy"))
    observed = (await world.observe()).observed
    told = [view.trouble.message for view in observed.pods if view.trouble is not None]
    assert told == [f"volume {index} is busy" for index in (1, 2, 3, 4)], "pod 0 has no node yet"
    assert len(observed.pods) == 8


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


async def test_creation_failures_of_a_job_that_is_being_deleted_are_of_no_interest(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    leaving = child("prepare", 1, active=0)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.kube.put(JOBS, "team", leaving)
    world.kube.put(EVENTS, "team", event("job-uid", "FailedCreate", "exceeded quota"))
    assert (await world.observe()).observed.creation_failures == ()


FAILURES = [
    ForbiddenError(403, "Forbidden", "cannot list resource"),
    InvalidError(422, "Invalid", "field label not supported"),
    TransientError(503, "ServiceUnavailable", "no"),
    TypeError("a bug"),
]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
async def test_events_that_cannot_be_read_stop_no_run_and_are_missed_once(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world.kube.refuse["list", "events"] = error
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(CLAIMS, "team", claim(labels=LABELS) | {"status": {"phase": "Pending"}})
    assert (await world.observe()).observed.claim_exists
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    assert (await world.observe()).observed.creation_failures == ()
    world.kube.put(PODS, "team", pod(node="node-1", phase="Pending"))
    for _ in range(3):
        (view,) = (await world.observe()).observed.pods
        assert view.trouble is None
    missed = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [message.split(":")[0] for message in missed] == [
        "going on without events of claims",
        "going on without events of Jobs",
        "going on without events of pods",
    ]


async def test_a_malformed_event_stops_no_run(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=1))
    world.kube.put(PODS, "team", pod(node="node-1", phase="Pending"))
    world.kube.put(EVENTS, "team", event("pod-uid-0", "FailedMount", "busy") | {"lastTimestamp": "yesterday"})
    (view,) = (await world.observe()).observed.pods
    assert (view.phase, view.trouble) == ("Pending", None)


async def test_an_event_without_times_or_words_is_one_like_any_other(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    bare = event("job-uid", "FailedCreate", "") | dict.fromkeys(("firstTimestamp", "lastTimestamp", "message"))
    world.kube.put(EVENTS, "team", bare)
    world.kube.put(EVENTS, "team", event("job-uid", "FailedCreate", "exceeded quota") | {"metadata": {"name": "b"}})
    assert (await world.observe()).observed.creation_failures == ("exceeded quota", "")


async def test_a_scrape_that_goes_wrong_in_any_way_stops_no_run(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.refuse["list", "pods"] = ForbiddenError(403, "Forbidden", "cannot list pods")
    assert (await world.observe()).observed.scrape is None
    world.addresses.set("job-uid", "pod-uid", "no address")
    world.observer = Observer(world.kube, Scraper(), world.addresses, Nodes(world.kube, enabled=False))
    assert (await world.observe()).observed.scrape is None


async def test_what_decides_must_be_read(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    for plural in ("jobs", "pods"):
        world.kube.refuse = {("list", plural): ForbiddenError(403, "Forbidden", "no")}
        with pytest.raises(ForbiddenError):
            await world.observe()


async def test_the_time_limit_of_a_pass_holds_while_something_optional_is_read() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await BestEffort().attempt("figures", for_ever(), None)
