"""A gang that is half scheduled gives its nodes back: uncounted, after a while, and not together with another."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft_operator.plan import needs_of
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Observed, PodView

from .builders import NOW, PREPARE, TRAIN, Seen, child, failed, later, look, pod, scene

PLACED = pod(0, scheduled_at=later(minutes=-3))
WAITS = pod(1, phase="Pending", node="", unschedulable="0/3 nodes: Insufficient nvidia.com/gpu")


def gang(*pods: PodView, **fields: Any) -> Observed:
    return scene(TRAIN, pods=pods, child_fields={"ready": min(1, len(pods))} | fields.pop("child_fields", {}), **fields)


def of_another_run(observed: Observed, uid: str) -> Observed:
    return replace(observed, job=observed.job.replace(metadata=observed.job.metadata.replace(uid=uid)))


def wait_of(seen: Seen) -> float:
    return float((seen.stage(TRAIN).retry_time - NOW).total_seconds())


def test_pods_that_hold_nodes_of_no_use_give_them_back_uncounted() -> None:
    seen = look(gang(PLACED, WAITS))
    assert seen.headline == ("Restarting", "HalfScheduled")
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (2, None)
    for words in ("1 of 2 pods", "startTimeoutSeconds", "Insufficient nvidia.com/gpu", "attempt 2 starts at"):
        assert words in seen.message
    assert seen.plan.requeue_after == 0
    assert look(seen.then()).actions == ["DeleteJob support-train-1"]


HELD = {"suspended": True, "ready": 0, "succeeded": 1}
DONE = pod(1, phase="Succeeded", exit_code=0, finished_at=later(minutes=-2))


@pytest.mark.parametrize(
    "observed",
    [
        gang(child_fields=HELD),
        gang(DONE, child_fields=HELD),
        gang(DONE, PLACED, child_fields={"succeeded": 1, "ready": 1, "started_at": later(minutes=-1)}),
        gang(DONE, child_fields={"succeeded": 1, "ready": 0, "started_at": later(minutes=-1)}),
    ],
    ids=["held", "held, and its pod is there", "released", "released, without the others yet"],
)
def test_a_gang_of_which_some_had_ended_when_it_was_held_is_made_anew_as_a_whole(observed: Observed) -> None:
    seen = look(observed)
    assert (seen.headline, seen.stage(TRAIN).attempt) == (("Training", "Interrupted"), 2)
    assert (seen.stage(TRAIN).restarts, seen.stage(TRAIN).retry_time, seen.plan.requeue_after) == (None, None, 0)
    assert "1 of 2 pods of Job support-train-1 had ended well when somebody held it" in seen.message
    assert look(seen.then()).actions == ["DeleteJob support-train-1"]


@pytest.mark.parametrize(
    "observed",
    [
        gang(DONE, PLACED, child_fields={"succeeded": 1, "ready": 1, "started_at": later(minutes=-9)}),
        gang(child_fields={"suspended": True, "ready": 0}),
        gang(DONE, replace(DONE, index=0), child_fields={**HELD, "succeeded": 2}),
    ],
    ids=["never held", "none had ended", "all had"],
)
def test_other_gangs_go_on(observed: Observed) -> None:
    assert look(observed).stage(TRAIN).attempt == 1


def test_pods_of_a_gang_of_which_some_have_ended_are_looked_at() -> None:
    released = child(TRAIN, ready=1, succeeded=1)
    assert needs_of(Run(replace(gang(), children=(released,)))).pods == released


def test_pods_that_wait_for_a_queue_beside_pods_with_nodes_are_half_a_gang_too() -> None:
    seen = look(gang(PLACED, replace(WAITS, unschedulable="", gates=("kueue.x-k8s.io/topology",))))
    assert seen.headline[1] == "HalfScheduled"
    assert "while the others had none: kueue.x-k8s.io/topology" in seen.message


def test_the_next_attempt_comes_after_a_wait() -> None:
    seen = look(gang(PLACED, WAITS))
    stopped = seen.then(children=(), pods=())
    assert look(stopped, later(seconds=9)).actions == []
    assert look(stopped, later(seconds=20)).actions == ["EnsureConfigMap train-2", "CreateJob train-2"]


def test_two_runs_that_gave_way_at_the_same_moment_do_not_come_back_together() -> None:
    waits = {wait_of(look(of_another_run(gang(PLACED, WAITS), f"uid-{number}"))) for number in range(20)}
    assert len(waits) > 5
    assert all(10 <= wait <= 20 for wait in waits)


def test_the_wait_is_the_same_whoever_asks() -> None:
    assert look(gang(PLACED, WAITS)).plan == look(gang(PLACED, WAITS)).plan


@pytest.mark.parametrize(
    "observed",
    [
        gang(replace(PLACED, scheduled_at=later(seconds=-179)), WAITS),
        gang(WAITS, replace(WAITS, index=0)),  # holds nothing
        gang(PLACED, replace(PLACED, index=1, waiting_reason="ImagePullBackOff", phase="Pending")),
        gang(PLACED, WAITS, runPolicy={"startTimeoutSeconds": 0}),
        gang(PLACED, WAITS, runPolicy={"startTimeoutSeconds": 3600}),
        gang(PLACED, WAITS, child_fields={"suspended": True}),
        gang(PLACED, WAITS, child_fields={"deleting": True}),
        gang(PLACED, WAITS, failed(1, reason="DiskFull")),
        gang(PLACED),
        gang(replace(PLACED, deleted_at=NOW), WAITS),
        gang(replace(PLACED, deleted_at=NOW)),
        gang(PLACED, replace(PLACED, index=1), observed={"creation_failures": ("exceeded quota",)}),
        scene(TRAIN),
        scene(PREPARE, pods=(WAITS,), child_fields={"ready": 0}),
    ],
    ids=[
        "not yet",
        "none",
        "all",
        "never",
        "later",
        "queued",
        "going",
        "failing",
        "being made",
        "stops",
        "stops, the other is gone",
        "all, after a refusal",
        "up",
        "no gang",
    ],
)
def test_other_gangs_are_left_alone(observed: Observed) -> None:
    assert look(observed).headline[1] != "HalfScheduled"


def test_pods_that_a_quota_refuses_make_a_gang_half_scheduled_too() -> None:
    refused = gang(PLACED, observed={"creation_failures": ("exceeded quota: gpus",)})
    assert look(refused).headline[1] == "HalfScheduled"
