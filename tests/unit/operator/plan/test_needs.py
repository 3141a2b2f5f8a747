"""Which facts a decision needs: as few as the state of the run allows."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft_operator.plan import (
    Needs,
    Observed,
    claim_needs_events,
    is_active,
    is_over,
    job_needs_events,
    needs_events,
    needs_of,
)
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ChildJob, JobState

from .builders import COMPLETE, FAILED, FAILING, MERGE, NOW, PREPARE, RUNNING, TRAIN, child, job, later, new_run, scene
from .specs import FROM_CLAIMS


def needs(job: QwenSFTJob, children: tuple[ChildJob, ...]) -> Needs:
    return needs_of(Run(Observed(job=job, children=children)))


def test_a_run_that_has_ended_needs_nothing() -> None:
    ended = scene(TRAIN, None, status={"completion_time": NOW}, **FROM_CLAIMS).job
    assert needs(ended, (child(TRAIN, FAILED),)) == Needs()


def test_a_training_that_is_up_needs_its_figures_alone() -> None:
    assert needs(scene(TRAIN).job, (child(TRAIN),)) == Needs(figures=child(TRAIN))


def test_the_claims_of_the_stage_are_read_while_pods_have_to_start() -> None:
    job = scene(PREPARE, None, recorded=False, **FROM_CLAIMS).job
    assert needs(job, ()).claims == ("runs", "models", "data", "eval")
    assert needs(job, (child(PREPARE, ready=0),)).claims == ("runs", "models", "data", "eval")
    assert needs(job, (child(PREPARE),)).claims == ()
    assert needs(job, (child(PREPARE, COMPLETE),)).claims == ("runs", "models", "data", "eval")
    assert needs(job, (child(PREPARE, FAILED),)).claims == ("runs", "models", "data", "eval")
    assert needs(scene(MERGE, None, recorded=False, **FROM_CLAIMS).job, ()).claims == ("runs", "models")
    over = scene(TRAIN, None, status={"completion_time": NOW}, **FROM_CLAIMS).job
    assert needs(over, ()).claims == ()


def test_a_claim_that_serves_several_purposes_is_read_once() -> None:
    shared: dict[str, Any] = {**FROM_CLAIMS, "storage": {"volume": {"claimName": "models"}}}
    assert needs(scene(TRAIN, None, recorded=False, **shared).job, ()).claims == ("models",)


def test_while_a_job_is_held_by_whomever_nobody_asks_for_what_it_needs_to_start() -> None:
    held = child(TRAIN, suspended=True, ready=0, active=0)
    assert needs(scene(TRAIN, **FROM_CLAIMS).job, (held,)) == Needs(pods=held, queue=held)
    assert needs(scene(TRAIN, None, recorded=False, suspend=True, **FROM_CLAIMS).job, ()) == Needs(starts=True)


def test_nodes_are_read_while_prepare_runs_and_only_if_they_can_tell_something() -> None:
    running = (child(PREPARE, RUNNING),)
    assert needs(job(), running).node_label == "nvidia.com/gpu.memory"
    assert needs(job(worker={"accelerator": {"memory": "80Gi"}}), running).node_label is None
    assert needs(job(worker={"accelerator": {"count": 0}}), running).node_label is None
    training = scene(TRAIN, RUNNING)
    assert needs(training.job, training.children).node_label is None


def test_before_an_attempt_has_a_job_the_pods_that_hold_it_up_are_read() -> None:
    job = scene(TRAIN, None, attempt=2, recorded=False).job
    leftover = child(TRAIN, deleting=True)
    assert needs(job, (child(PREPARE, COMPLETE), leftover)).pods == leftover
    assert needs(job, (child(PREPARE, COMPLETE),)).pods is None


def test_pods_are_read_only_when_there_is_something_to_ask() -> None:
    job = scene(TRAIN).job
    assert needs(job, (child(TRAIN),)).pods is None
    for asked in (child(TRAIN, ready=1), child(TRAIN, FAILING), child(TRAIN, FAILED), child(TRAIN, COMPLETE)):
        assert needs(job, (asked,)).pods == asked
    assert needs(job, (child(PREPARE, COMPLETE),)).pods is None
    assert needs(new_run().job, ()).pods is None


def test_only_a_training_or_a_merge_that_is_up_is_scraped() -> None:
    assert needs(scene(TRAIN).job, (child(TRAIN),)).figures == child(TRAIN)
    assert needs(scene(TRAIN).job, (child(TRAIN, ready=1),)).figures is None
    assert needs(scene(MERGE).job, (child(MERGE),)) == Needs(figures=child(MERGE))
    assert needs(scene(MERGE).job, (child(MERGE, ready=0),)).figures is None
    assert needs(scene(PREPARE).job, (child(PREPARE, RUNNING),)).figures is None


@pytest.mark.parametrize(
    ("phase", "containers", "needed"),
    [
        ("Pending", [{"waiting": {"reason": "ContainerCreating"}}], True),
        ("Pending", [{"waiting": {"reason": "ImagePullBackOff"}}], False),
        ("Running", [{"running": {}}], False),
        ("Pending", None, True),
    ],
)
def test_events_are_read_of_pods_that_are_being_created(
    phase: str, containers: list[dict[str, Any]] | None, *, needed: bool
) -> None:
    statuses = None if containers is None else [{"name": "trainer", "state": state} for state in containers]
    status = {"phase": phase, "containerStatuses": statuses}
    assert needs_events({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": status}, NOW) == needed


@pytest.mark.parametrize(("seconds", "needed"), [(29, False), (30, True)])
def test_of_what_is_young_no_events_are_read(seconds: int, *, needed: bool) -> None:
    created = {"name": "x", "creationTimestamp": "2026-01-02T12:00:00Z"}
    now = later(seconds=seconds)
    assert needs_events({"metadata": created, "spec": {"nodeName": "n1"}}, now) == needed
    assert claim_needs_events({"metadata": created}, now) == needed
    assert not claim_needs_events({"metadata": created, "status": {"phase": "Bound"}}, now)


@pytest.mark.parametrize(
    ("fields", "pods", "seconds", "needed"),
    [
        ({}, 1, 10, True),
        ({}, 1, 9, False),
        ({}, 2, 10, False),
        ({"deleting": True}, 1, 10, False),
        ({"suspended": True}, 0, 10, False),
        ({"state": FAILED}, 1, 10, False),
    ],
    ids=["lacks pods", "is new", "has its pods", "goes", "is held", "has ended"],
)
def test_the_events_of_a_job_are_read_when_it_lacks_pods_for_long(
    fields: dict[str, Any], pods: int, seconds: int, *, needed: bool
) -> None:
    one = replace(child(TRAIN, created_at=NOW), **fields)
    assert job_needs_events(Run(scene(TRAIN)), one, pods, later(seconds=seconds)) == needed


def test_a_job_that_the_status_names_and_nobody_knows_is_looked_for() -> None:
    job = scene(TRAIN).job
    assert needs(job, ()).lost_job == "support-train-1"
    assert needs(job, (child(TRAIN),)).lost_job is None
    assert needs(scene(TRAIN, None, recorded=False).job, ()).lost_job is None


def test_the_last_words_of_pods_are_read_when_their_job_has_ended() -> None:
    job = scene(TRAIN).job
    words = {state: needs(job, (child(TRAIN, state, ready=0),)).last_words for state in JobState}
    assert words == {RUNNING: False, FAILING: False, FAILED: True, COMPLETE: True}


OVER: dict[str, Any] = {"completionTime": "2026-01-02T12:00:00Z", "observedGeneration": 2}


@pytest.mark.parametrize(
    ("metadata", "spec", "status", "over"),
    [
        ({}, {}, OVER, True),
        ({}, {}, {"phase": "Training"}, False),
        ({"generation": 3}, {}, OVER, False),
        ({"deletionTimestamp": "2026-01-02T12:00:00Z"}, {}, OVER, False),
        ({}, {"runPolicy": {"ttlSecondsAfterFinished": 0}}, OVER, False),
        ({}, {}, None, False),
    ],
    ids=["has ended", "goes on", "was edited", "is being deleted", "has Jobs to remove", "is new"],
)
def test_a_run_is_over_when_nothing_is_to_be_decided_any_more(
    metadata: dict[str, Any], spec: dict[str, Any], status: dict[str, Any] | None, *, over: bool
) -> None:
    assert is_over({"metadata": {"generation": 2} | metadata, "spec": spec, "status": status}) == over


@pytest.mark.parametrize(
    ("type_", "active"), [("Complete", False), ("Failed", False), ("FailureTarget", True), ("Suspended", True)]
)
def test_a_job_is_active_until_all_its_pods_have_ended(type_: str, *, active: bool) -> None:
    assert is_active({"status": {"conditions": [{"type": type_, "status": "True"}]}}) == active
    assert is_active({"status": {"conditions": [{"type": type_, "status": "False"}]}})
    assert is_active({})


def test_events_of_a_pod_without_node_tell_nothing_more() -> None:
    assert not needs_events({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}}, NOW)
