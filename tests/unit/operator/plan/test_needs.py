"""Which facts a decision needs: as few as the state of the run allows."""

from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft_operator.plan import Needs, Observed, needs_events, needs_of
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ChildJob

from .builders import COMPLETE, FAILED, FAILING, MERGE, NOW, PREPARE, RUNNING, TRAIN, child, job, new_run, scene
from .specs import FROM_CLAIMS, FROM_MAPS


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


def test_the_config_maps_of_the_stage_are_read_only_when_its_job_may_be_made() -> None:
    job = scene(PREPARE, None, recorded=False, **FROM_MAPS).job
    assert needs(job, ()).config_maps == ("rows-a", "rows-held", "zero", "site")
    assert needs(job, (child(PREPARE, ready=0),)).config_maps == ()
    assert needs(job, (child(PREPARE, COMPLETE),)).config_maps == ()
    assert needs(scene(MERGE, None, recorded=False, **FROM_MAPS).job, ()).config_maps == ("site",)
    assert needs(scene(PREPARE, None, recorded=False, suspend=True, **FROM_MAPS).job, ()).config_maps == ()
    over = scene(TRAIN, None, status={"completion_time": NOW}, **FROM_MAPS).job
    assert needs(over, ()).config_maps == ()


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
    assert needs_events({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": status}) == needed


def test_events_of_a_pod_without_node_tell_nothing_more() -> None:
    assert not needs_events({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}})
