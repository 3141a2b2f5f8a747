"""Edits of what may be edited: they reach pods that wait, and leave alone those that run."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Reason, Stage, editable_digest
from qwensft_operator.plan.types import Observed, Obstacle, PodView

from .builders import FAILING, MERGE, PREPARE, TRAIN, Seen, failed, job, later, look, pod, scene

PENDING = {"phase": "Pending", "node": ""}
UNSCHEDULABLE: dict[str, Any] = {**PENDING, "unschedulable": "0/3 nodes match the selector"}
EDIT: dict[str, Any] = {"worker": {"nodeSelector": {"pool": "b"}}}


def waiting(stage: Stage = TRAIN, pods: tuple[PodView, ...] = (pod(**UNSCHEDULABLE),), **fields: Any) -> Observed:
    """An attempt that is not up, made from the spec as it is."""
    made_from = editable_digest(job(**fields.pop("spec", {})).spec, stage)
    child_fields = {"ready": 0, "made_from": made_from} | fields.pop("child_fields", {})
    return scene(stage, pods=pods, child_fields=child_fields, **fields)


def edit(observed: Observed, **spec: Any) -> Seen:
    return look(look(observed).then(spec=spec or EDIT))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_corrected_spec_reaches_pods_that_cannot_be_scheduled_uncounted(stage: Stage) -> None:
    seen = edit(waiting(stage))
    assert seen.headline[1] == "SpecChanged"
    assert (seen.stage(stage).attempt, seen.stage(stage).restarts, seen.stage(stage).retry_time) == (2, None, None)
    stopping = look(seen.then())
    assert stopping.actions == [f"DeleteJob support-{stage}-1"]
    anew = look(stopping.then(children=(), pods=()))
    assert anew.actions == [f"EnsureConfigMap {stage}-2", f"CreateJob {stage}-2"]


def test_a_training_that_waits_in_a_queue_goes_to_the_one_that_an_edit_names() -> None:
    held = {"suspended": True, "queue": "slow"}
    queued = waiting(
        pods=(), spec={"runPolicy": {"queueName": "slow"}}, child_fields=held, runPolicy={"queueName": "slow"}
    )
    assert look(queued).headline == ("Suspended", "Queued")
    assert edit(queued, runPolicy={"queueName": "quick"}).headline[1] == "SpecChanged"


def test_an_attempt_made_from_the_spec_as_it_is_is_left_alone() -> None:
    assert look(waiting()).headline[1] == "Unschedulable"


def test_resources_that_a_quota_refused_are_corrected_too() -> None:
    refused = waiting(PREPARE, (), observed={"creation_failures": ("exceeded quota: must specify limits.cpu",)})
    assert edit(refused, prepare={"resources": {"limits": {"cpu": "2"}}}).headline[1] == "SpecChanged"


def test_a_preparation_that_waits_learns_whether_a_merge_follows() -> None:
    seen = edit(waiting(PREPARE), merge={"enabled": False})
    assert (seen.headline[1], seen.stage(PREPARE).attempt) == ("SpecChanged", 2)


def test_a_preparation_whose_job_was_refused_is_started_by_what_the_spec_says_then() -> None:
    begun = editable_digest(job().spec, PREPARE)
    made = {"config_maps": frozenset({"support-prepare-1"}), "config_map_from": begun}
    refused = scene(PREPARE, None, recorded=False, observed=made)
    assert look(refused).actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]
    told = look(replace(refused, obstacle=Obstacle(Reason.QUOTA_EXCEEDED, "exceeded quota")))
    assert told.headline[1] == "QuotaExceeded"
    seen = look(told.then(spec={"prepare": {"preview": "Log"}}, obstacle=None))
    assert (seen.headline[1], seen.actions, seen.plan.requeue_after) == ("SpecChanged", [], 0)
    assert (seen.stage(PREPARE).attempt, seen.stage(PREPARE).restarts, seen.stage(PREPARE).job_name) == (2, None, None)
    anew = look(seen.then(config_map_from=""))
    assert anew.actions == ["EnsureConfigMap prepare-2", "CreateJob prepare-2"]


@pytest.mark.parametrize(("stage", "made_from"), [(PREPARE, ""), (TRAIN, "v1:older"), (MERGE, "v1:older")])
def test_a_config_map_that_says_nothing_of_the_edit_is_used(stage: Stage, made_from: str) -> None:
    made = {"config_maps": frozenset({f"support-{stage}-1"}), "config_map_from": made_from}
    seen = look(scene(stage, None, recorded=False, observed=made))
    assert seen.actions[-2:] == [f"EnsureConfigMap {stage}-1", f"CreateJob {stage}-1"]


def test_pods_that_run_are_left_alone() -> None:
    assert edit(scene(child_fields={"made_from": "older"})).headline == ("Training", "Running")
    starting = waiting(pods=(pod(0), pod(1, phase="Pending", waiting_reason="ContainerCreating")))
    assert edit(starting).headline[1] == "PodsStarting"


@pytest.mark.parametrize(
    "pods",
    [
        (pod(0), pod(1, unreachable=True)),
        (pod(0), pod(1, deleted_at=later(minutes=-5))),
        (pod(0), pod(1, phase="Pending", waiting_reason="ContainerCreating"), pod(2, unreachable=True)),
        (pod(0, waiting_reason="CrashLoopBackOff"), pod(1)),
    ],
    ids=["its node blinks", "it does not stop", "beside one that starts", "a container of it waits"],
)
def test_what_ails_a_pod_that_runs_lets_no_edit_stop_the_training(pods: tuple[PodView, ...]) -> None:
    seen = edit(waiting(pods=pods, distribution={"nodes": len(pods)}))
    assert seen.headline[1] != "SpecChanged"
    assert seen.stage(TRAIN).attempt == 1


def test_a_pod_that_cannot_be_made_lets_an_edit_reach_those_that_run_and_wait_for_it() -> None:
    refused = {"creation_failures": ("exceeded quota",)}
    assert edit(waiting(pods=(pod(0),), observed=refused)).headline[1] == "SpecChanged"
    assert edit(waiting(pods=(pod(0), pod(1)), observed=refused)).headline[1] == "PodsStarting"


def test_pods_that_run_and_wait_for_one_that_cannot_start_are_made_anew() -> None:
    assert edit(waiting(pods=(pod(0), pod(1, **UNSCHEDULABLE)))).headline[1] == "SpecChanged"


def test_an_edit_reaches_a_job_that_a_queue_holds() -> None:
    queued = waiting(pods=(), child_fields={"suspended": True})
    assert edit(queued).headline[1] == "SpecChanged"
    stopping = waiting(pods=(pod(0, deleted_at=None),), child_fields={"suspended": True})
    assert edit(stopping).headline[1] == "Queued"


def test_a_failing_attempt_tells_its_cause_whatever_is_edited() -> None:
    assert edit(waiting(pods=(failed(reason="DiskFull"), pod(1, **UNSCHEDULABLE)))).headline[1] == "DiskFull"
    older = scene(TRAIN, FAILING, child_fields={"made_from": "older"}, pods=(failed(reason="DiskFull"),))
    assert look(older).headline[1] == "DiskFull"


def test_a_job_that_is_going_already_is_waited_for() -> None:
    assert edit(waiting(child_fields={"deleting": True})).headline[1] == "JobDeleted"


def test_a_job_of_an_earlier_version_is_left_alone() -> None:
    assert edit(waiting(child_fields={"made_from": ""})).headline[1] == "Unschedulable"


def test_a_merge_that_waits_is_made_anew_by_what_spec_merge_says_then() -> None:
    seen = edit(waiting(MERGE), merge={"shardSizeGB": 7})
    assert (seen.headline[1], seen.stage(MERGE).attempt) == ("SpecChanged", 2)
    recorded = look(seen.then(children=(), pods=()))
    anew = look(recorded.then())
    assert anew.actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]
    assert anew.stage(MERGE).spec_hash != seen.stage(MERGE).spec_hash


@pytest.mark.parametrize(
    ("stage", "spec"),
    [
        (PREPARE, {"prepare": {"retries": 5}}),
        (PREPARE, {"merge": {"shardSizeGB": 7}}),
        (TRAIN, {"prepare": {"tolerations": []}}),
        (TRAIN, {"runPolicy": {"maxRestarts": 9}}),
        (TRAIN, {"merge": {"enabled": False}}),
        (MERGE, {"merge": {"retries": 5}}),
    ],
)
def test_what_says_nothing_to_the_pods_of_a_stage_moves_none(stage: Stage, spec: dict[str, Any]) -> None:
    assert edit(waiting(stage), **spec).headline[1] == "Unschedulable"


def test_an_edit_that_is_taken_back_changes_nothing() -> None:
    first = waiting()
    assert look(replace(edit(first).observed, job=first.job, children=first.children)).headline[1] == "Unschedulable"
