"""What Kueue says of held Jobs: asked for seldom and together, and missed where it cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import ChildJob, JobState, QueuePlace
from qwensft_operator.runtime.kube import (
    LOCAL_QUEUES,
    WORKLOADS,
    ForbiddenError,
    NotFoundError,
    Resource,
    TransientError,
)
from qwensft_operator.runtime.workloads import Workloads

from .fakes import FakeKube

QUOTA = "insufficient unused quota for nvidia.com/gpu in flavor a, 8 more needed"
PENDING = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": QUOTA}


def child(number: int = 1, queue: str = "gpus") -> ChildJob:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return ChildJob(
        f"run-{number}-train-1", f"uid-{number}", Stage.TRAIN, 1, JobState.RUNNING, created, suspended=True, queue=queue
    )


def workload(number: int = 1, *conditions: dict[str, Any]) -> dict[str, Any]:
    labels = {"kueue.x-k8s.io/job-uid": f"uid-{number}"}
    return {
        "metadata": {"name": f"job-run-{number}", "labels": labels},
        "status": {"conditions": list(conditions or (PENDING,))},
    }


def pending(*names: str) -> dict[str, Any]:
    """A queue as the visibility API shows it: the first waits at position 0."""
    items = [{"metadata": {"name": name}, "positionInLocalQueue": at} for at, name in enumerate(names)]
    return {"metadata": {"name": "gpus"}, "items": items}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


async def test_the_reason_and_the_place_counted_from_1_are_told(kube: FakeKube) -> None:
    kube.put(WORKLOADS, "team", workload())
    kube.put(LOCAL_QUEUES, "team", pending("job-other", "job-run-1"))
    assert await Workloads(kube).place("team", child()) == QueuePlace("job-run-1", QUOTA, 2)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (
            [
                {"type": "QuotaReserved", "status": "True", "message": "Quota reserved"},
                {"type": "Evicted", "status": "True", "message": "Preempted for a workload"},
            ],
            "Preempted for a workload",
        ),
        ([PENDING, {"type": "Evicted", "status": "False", "message": "Previously: preempted"}], QUOTA),
        (
            [
                {"type": "QuotaReserved", "status": "True", "message": "Quota reserved"},
                {"type": "Admitted", "status": "False", "message": "The workload has not all checks ready"},
            ],
            "The workload has not all checks",
        ),
        ([{"type": "QuotaReserved", "status": "False", "message": "a\nb\x1b[2J"}], "a b\\x1b[2J"),
        ([{"type": "Requeued", "status": "True"}], ""),
    ],
    ids=["evicted", "queued again", "waits for checks", "hostile", "says nothing"],
)
async def test_what_it_waits_for_now_is_told(kube: FakeKube, conditions: list[dict[str, Any]], message: str) -> None:
    kube.put(WORKLOADS, "team", workload(1, *conditions))
    place = await Workloads(kube).place("team", child())
    assert place is not None
    assert place.message.startswith(message) if message else place.message == ""


ADMITTED = [{"type": kind, "status": "True", "message": "by a"} for kind in ("QuotaReserved", "Admitted")]
GIVEN_UP = {"type": "Finished", "status": "True", "reason": "FailedToStart", "message": "conflict for nodeSelector"}
TAKEN_AWAY = {"type": "Evicted", "status": "True", "reason": "PodsReadyTimeout", "message": "not ready in time"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ((), QueuePlace("job-run-1", admitted=True)),
        ((GIVEN_UP,), QueuePlace("job-run-1", "conflict for nodeSelector", admitted=True, given_up=True)),
        ((TAKEN_AWAY,), QueuePlace("job-run-1", "not ready in time")),
    ],
    ids=["about to be released", "given up", "being taken away"],
)
async def test_what_is_admitted_and_held_still_tells_why(
    kube: FakeKube, more: tuple[dict[str, Any], ...], place: QueuePlace
) -> None:
    kube.put(WORKLOADS, "team", workload(1, *ADMITTED, *more))
    assert await Workloads(kube).place("team", child()) == place


async def test_what_was_evicted_tells_what_it_waits_for_now_and_why_it_was_taken_away(kube: FakeKube) -> None:
    """Kueue takes the eviction back when there is quota again, and tells beside it what is lacking until then."""
    evicted = {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "Preempted for a workload"}
    kube.put(WORKLOADS, "team", workload(1, PENDING, evicted))
    place = await Workloads(kube).place("team", child())
    assert place == QueuePlace("job-run-1", QUOTA, evicted="Preempted for a workload")


@pytest.mark.parametrize(
    ("spec", "reason", "told"),
    [
        ({}, "Pending", (False, False)),
        ({}, "Inadmissible", (True, False)),
        ({"active": True}, "Pending", (False, False)),
        ({"active": False}, "Pending", (False, True)),
    ],
)
async def test_what_no_quota_helps_is_told_apart(
    spec: dict[str, Any], reason: str, told: tuple[bool, bool], kube: FakeKube
) -> None:
    kube.put(WORKLOADS, "team", workload(1, PENDING | {"reason": reason}) | {"spec": spec})
    place = await Workloads(kube).place("team", child())
    assert place is not None
    assert (place.inadmissible, place.inactive) == told


async def test_many_that_wait_are_asked_about_at_once_and_not_again_for_a_while(kube: FakeKube) -> None:
    clock = Clock()
    for number in range(50):
        kube.put(WORKLOADS, "team", workload(number))
    kube.put(LOCAL_QUEUES, "team", pending(*(f"job-run-{number}" for number in range(50))))
    workloads = Workloads(kube, clock)
    places = await asyncio.gather(*(workloads.place("team", child(number)) for number in range(50)))
    assert [place.position for place in places if place is not None] == list(range(1, 51))
    assert len(kube.calls) == 2
    clock.now += 30
    await workloads.place("team", child())
    assert len(kube.calls) == 4


async def test_what_is_known_stays_while_kueue_does_not_answer(kube: FakeKube) -> None:
    clock = Clock()
    kube.put(WORKLOADS, "team", workload())
    kube.put(LOCAL_QUEUES, "team", pending("job-run-1"))
    workloads = Workloads(kube, clock)
    known = await workloads.place("team", child())
    kube.refuse["list", "workloads"] = TransientError(503, "ServiceUnavailable", "no")
    kube.refuse["get", "localqueues/pendingworkloads"] = TransientError(503, "ServiceUnavailable", "no")
    clock.now += 30
    assert await workloads.place("team", child()) == known == QueuePlace("job-run-1", QUOTA, 1)


async def test_an_earlier_kueue_is_asked_by_its_version(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = kube.pages

    def served(resource: Resource, namespace: str, **selected: Any) -> AsyncIterator[Any]:
        if resource.version == "v1beta2":
            raise NotFoundError(404, "NotFound", "no such version")
        return pages(resource, namespace, **selected)

    kube.put(WORKLOADS, "team", workload())
    monkeypatch.setattr(kube, "pages", served)
    assert await Workloads(kube).place("team", child(queue="")) == QueuePlace("job-run-1", QUOTA)


async def test_a_job_that_kueue_does_not_know_has_no_place(kube: FakeKube) -> None:
    kube.put(WORKLOADS, "team", workload(2))
    assert await Workloads(kube).place("team", child(1)) is None


async def test_without_a_queue_no_place_is_looked_for(kube: FakeKube) -> None:
    kube.put(WORKLOADS, "team", workload())
    assert await Workloads(kube).place("team", child(queue="")) == QueuePlace("job-run-1", QUOTA)
    assert [call[1] for call in kube.calls] == ["workloads"]


@pytest.mark.parametrize(
    ("refused", "logged"),
    [(NotFoundError(404, "NotFound", "no such resource"), 0), (ForbiddenError(403, "Forbidden", "no"), 1)],
    ids=["not installed", "not allowed"],
)
async def test_without_its_apis_a_run_learns_less(
    kube: FakeKube, refused: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    kube.put(WORKLOADS, "team", workload())
    kube.refuse["get", "localqueues/pendingworkloads"] = refused
    assert await Workloads(kube).place("team", child()) == QueuePlace("job-run-1", QUOTA)
    kube.refuse["list", "workloads"] = refused
    assert await Workloads(kube).place("team", child()) is None
    assert len(caplog.records) == 2 * logged
