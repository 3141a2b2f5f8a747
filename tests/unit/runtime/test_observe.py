"""What is read for a decision: enough, live, and no more than this run needs now."""

from typing import Any

import pytest

from qwensft.api.v1alpha1 import InvalidJobError, parse_job
from qwensft.plan.types import Scrape
from qwensft.runtime.kube import CLAIMS, CONFIG_MAPS, JOBS, PODS, QWENSFTJOBS, SERVICES, Manifest
from qwensft.runtime.observe import Observation, Observer, claim_problem
from qwensft.runtime.scrape import PodAddresses, Scraper

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
        self.observer = Observer(self.kube, self.scraper, self.addresses)

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
            "ownerReferences": [{"uid": owner}],
        },
        "status": status,
    }


def pod(uid: str = "job-uid", index: str = "0", **status: Any) -> Manifest:
    labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-completion-index": index}
    return {"metadata": {"name": f"pod-{index}", "labels": labels}, "status": status}


def training(**more: Any) -> dict[str, Any]:
    conditions = [
        {
            "type": "Prepared",
            "status": "True",
            "reason": "Completed",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    stages = {"train": {"attempt": 1, "jobName": "demo-train-1"}}
    return {"status": {"conditions": conditions, "stages": stages, **more}}


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
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "demo-prepare-1"}})
    world.kube.put(CLAIMS, "team", claim(labels=LABELS))
    observed = (await world.observe()).observed
    assert observed.config_maps == {"demo-prepare-1"}
    assert observed.claim_exists
    assert not observed.service_exists
    assert ("list", "pods") not in world.reads()


async def test_objects_of_strangers_do_not_count_so_that_creating_ours_tells_of_the_conflict(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(SERVICES, "team", {"metadata": {"name": "demo-train"}})
    world.kube.put(CLAIMS, "team", claim())
    observed = (await world.observe()).observed
    assert not observed.service_exists
    assert not observed.claim_exists


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


@pytest.mark.parametrize(
    ("nodes", "volume", "claim", "problem"),
    [
        (1, {"claimName": "mine"}, None, "claim mine does not exist"),
        (1, {"claimTemplate": {"size": "1Gi"}}, None, ""),
        (1, {"claimName": "mine"}, {"phase": "Lost"}, "lost its volume"),
        (1, {"claimName": "mine"}, {"phase": "Pending"}, ""),
        (1, {"claimName": "mine"}, {"deletionTimestamp": "now"}, "being deleted"),
        (1, {"claimName": "mine"}, {"modes": ["ReadOnlyMany"]}, "read-only"),
        (1, {"claimName": "mine"}, {"modes": ["ReadWriteOncePod"]}, ""),
        (2, {"claimName": "mine"}, {"modes": ["ReadWriteOncePod"]}, "2 nodes need ReadWriteMany"),
        (2, {"claimName": "mine"}, {"modes": ["ReadWriteOnce"]}, ""),
    ],
)
def test_a_claim_that_cannot_serve_is_told_before_pods_hang_on_it(
    nodes: int, volume: dict[str, Any], claim: dict[str, Any] | None, problem: str
) -> None:
    job = parse_job(job_manifest(storage={"volume": volume}, distribution={"nodes": nodes}))
    manifest = claim and {
        "metadata": {"name": "mine", **{k: v for k, v in claim.items() if k == "deletionTimestamp"}},
        "spec": {"accessModes": claim.get("modes", ["ReadWriteMany"])},
        "status": {"phase": claim.get("phase", "Bound")},
    }
    said = claim_problem(job, manifest)
    assert problem in said
    assert bool(problem) == bool(said)
