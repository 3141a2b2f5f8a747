"""Events are asked for where nothing else tells, rarely, and stop no run."""

import asyncio
import itertools
from datetime import UTC, datetime

import pytest

from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.kube import (
    CLAIMS,
    EVENTS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    ForbiddenError,
    InvalidError,
    TransientError,
)

from .fakes import FakeKube, job_manifest, make_observer
from .observing import LABELS, World, child, claim, event, pod, training


@pytest.fixture
def world() -> World:
    return World()


FAILURES = [
    ForbiddenError(403, "Forbidden", "cannot list resource"),
    InvalidError(422, "Invalid", "field label not supported"),
    TransientError(503, "ServiceUnavailable", "no"),
    TypeError("a bug"),
]


async def test_pods_and_the_reason_of_missing_ones_are_read_while_a_job_is_not_up(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    world.kube.put(PODS, "team", pod(uid="another-job"))
    assert (await world.observe()).observed.pods == ()
    assert ("list", "events", "involvedObject.kind=Job,reason=FailedCreate") in world.kube.calls

    world.kube.calls.clear()
    world.kube.put(PODS, "team", pod(phase="Pending"))
    assert [view.phase for view in (await world.observe()).observed.pods] == ["Pending"]
    assert ("list", "events") not in world.reads()


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
    assert told == [f"volume {index} is busy" for index in (1, 2)], "pod 0 has no node yet"
    assert len(observed.pods) == 8

    told = [view.trouble.message for view in (await world.observe()).observed.pods if view.trouble is not None]
    assert told == [f"volume {index} is busy" for index in (1, 2, 3, 4)], "the others have their turn, two at a time"


async def test_creation_failures_of_a_job_that_is_being_deleted_are_of_no_interest(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    leaving = child("prepare", 1, active=0)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.kube.put(JOBS, "team", leaving)
    world.kube.put(EVENTS, "team", event("job-uid", "FailedCreate", "exceeded quota"))
    assert (await world.observe()).observed.creation_failures == ()


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


async def test_nobody_asks_why_what_is_young_does_not_come_up(world: World) -> None:
    soon = datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.kube.put(CLAIMS, "team", claim(labels=LABELS) | {"status": {"phase": "Pending"}})
    world.kube.put(JOBS, "team", child("prepare", 1, active=0))
    await world.observe(soon)
    world.kube.put(PODS, "team", pod(node="node-1", phase="Pending"))
    await world.observe(soon)
    assert ("list", "events") not in world.reads()


async def test_a_gang_that_starts_slowly_is_asked_about_a_few_times_however_often_it_is_looked_at(
    world: World,
) -> None:
    clock = itertools.count(0.0, 0.25)
    world.observer = make_observer(world.kube, world.store, clock=lambda: next(clock))
    world.kube.put(QWENSFTJOBS, "team", job_manifest(distribution={"nodes": 256}) | training())
    world.kube.put(JOBS, "team", child("train", 1, active=256))
    for index in range(256):
        world.kube.put(PODS, "team", pod(index=str(index), node="node-1", phase="Pending"))
    for _ in range(20):
        await world.observe()
    assert [plural for verb, plural, _ in world.kube.calls if verb == "list"] == ["events", "events"]


async def test_what_holds_up_hundreds_of_jobs_or_claims_is_asked_once() -> None:
    kube = FakeKube()
    explanations = Explanations(kube, lambda: 100.0)
    for number in range(300):
        kube.put(EVENTS, "team", event(f"job-{number}", "FailedCreate", f"quota {number}"))
        kube.put(EVENTS, "team", event(f"claim-{number}", "ProvisioningFailed", f"class {number}"))
    kube.put(EVENTS, "team", event("job-7", "SuccessfulCreate", "never mind"))
    jobs = await asyncio.gather(*(explanations.of_job("team", f"job-{number}") for number in range(300)))
    assert [[e["message"] for e in events] for events in jobs] == [[f"quota {number}"] for number in range(300)]
    claims = ({"metadata": {"uid": f"claim-{number}"}} for number in range(300))
    told = await asyncio.gather(*(explanations.of_claim("team", one) for one in claims))
    assert [[e["message"] for e in events] for events in told] == [[f"class {number}"] for number in range(300)]
    assert len(kube.calls) == 2
