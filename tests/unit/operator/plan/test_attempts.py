"""Attempts and restarts: what a failure costs, when the run gives up, and who may delete what by hand."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage

from .builders import (
    COMPLETE,
    FAILED,
    FAILING,
    MERGE,
    PREPARE,
    TRAIN,
    child,
    failed,
    interrupted,
    later,
    look,
    pod,
    scene,
)

LIMITS: dict[str, Any] = {"runPolicy": {"maxRestarts": 2}, "prepare": {"retries": 2}, "merge": {"retries": 2}}


def test_a_failed_training_reserves_the_next_attempt_and_starts_it_after_a_wait() -> None:
    seen = look(scene(TRAIN, FAILED, pods=(failed(),)))
    assert seen.actions == []
    assert seen.headline == ("Restarting", "TrainingFailed")
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).job_name, seen.stage(TRAIN).restarts) == (2, None, 1)
    assert (
        seen.message
        == "pod pod-0 (node rank 0) on node node-0 exited with code 1; attempt 2 starts at 2026-01-02T12:00:10Z"
    )
    assert seen.plan.requeue_after == 10

    again = look(seen.then(pods=()), later(seconds=10))
    assert again.actions == ["EnsureConfigMap train-2", "CreateJob train-2"]
    assert again.headline == ("Restarting", "PodsStarting")


@pytest.mark.parametrize("stage", list(Stage))
def test_the_last_allowed_restart_is_made(stage: Stage) -> None:
    seen = look(scene(stage, FAILED, attempt=2, restarts=1, **LIMITS))
    assert (seen.stage(stage).attempt, seen.stage(stage).restarts) == (3, 2)


@pytest.mark.parametrize(
    ("stage", "field"),
    [(PREPARE, "spec.prepare.retries"), (TRAIN, "spec.runPolicy.maxRestarts"), (MERGE, "spec.merge.retries")],
)
def test_one_failure_more_fails_the_run_and_names_the_limit(stage: Stage, field: str) -> None:
    seen = look(scene(stage, FAILED, attempt=3, restarts=2, **LIMITS))
    assert seen.status.phase == "Failed"
    assert seen.message.endswith(f"gave up after 2 restarts ({field})")
    assert (seen.stage(stage).attempt, seen.stage(stage).restarts) == (3, 2)


def test_no_restarts_means_that_the_first_failure_is_the_end() -> None:
    assert look(scene(TRAIN, FAILED, runPolicy={"maxRestarts": 0})).status.phase == "Failed"


def test_restarts_of_the_training_stand_at_the_top_of_the_status_too() -> None:
    assert look(scene(TRAIN, FAILED, attempt=2, restarts=1)).status.restarts == 2
    assert look(scene(PREPARE, FAILED)).status.restarts is None


def test_an_eviction_takes_an_attempt_but_no_restart() -> None:
    seen = look(scene(TRAIN, FAILED, attempt=4, restarts=3, pods=(interrupted(disrupted="PreemptionByScheduler"),)))
    assert seen.headline == ("Restarting", "Preempted")
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (5, 3)


def test_exit_code_78_fails_the_run_at_once() -> None:
    seen = look(scene(TRAIN, FAILED, pods=(failed(code=78, reason="InvalidConfig", message="unknown key"),)))
    assert seen.headline == ("Failed", "InvalidConfig")
    assert seen.stage(TRAIN).restarts is None
    assert seen.status.completion_time is not None


def test_a_failing_job_is_waited_for() -> None:
    seen = look(scene(TRAIN, FAILING, pods=(failed(message="boom"),)))
    assert seen.actions == []
    assert seen.stage(TRAIN).attempt == 1
    assert (
        seen.message
        == "pod pod-0 (node rank 0) on node node-0 exited with code 1: boom; waiting for the other pods to stop"
    )


def test_a_node_that_no_longer_answers_is_named_while_its_pod_cannot_stop() -> None:
    seen = look(scene(TRAIN, FAILING, pods=(failed(), pod(1, unreachable=True))))
    assert seen.headline == ("Training", "NodeLost")
    assert "exited with code 1; pod pod-1 (node rank 1) on node node-1: the node no longer answers" in seen.message


def test_a_training_job_deleted_by_hand_is_a_lost_attempt() -> None:
    seen = look(scene(TRAIN, None))
    assert seen.headline == ("Restarting", "JobDeleted")
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (2, 1)


def test_a_job_that_is_being_deleted_by_hand_is_waited_for() -> None:
    seen = look(scene(TRAIN, child_fields={"deleting": True}))
    assert (seen.actions, seen.headline) == ([], ("Training", "JobDeleted"))


def test_a_deleted_job_counts_even_if_a_crash_kept_it_out_of_the_status() -> None:
    seen = look(scene(TRAIN, recorded=False, child_fields={"deleting": True}))
    assert look(seen.then(children=())).stage(TRAIN).restarts == 1


def test_a_failed_job_that_is_deleted_keeps_its_own_cause() -> None:
    pods = (failed(code=78, reason="InvalidDataset", message="row 7"),)
    seen = look(scene(TRAIN, FAILED, child_fields={"deleting": True}, pods=pods))
    assert seen.headline == ("Failed", "InvalidDataset")


def test_a_finished_stage_is_not_run_again_when_its_job_is_deleted() -> None:
    seen = look(scene(TRAIN))
    assert [c.stage for c in seen.observed.children] == [TRAIN]
    assert seen.headline == ("Training", "Running")


def test_a_complete_job_counts_even_while_it_is_being_deleted() -> None:
    seen = look(scene(PREPARE, COMPLETE, child_fields={"deleting": True}))
    assert seen.condition("Prepared").status == "True"


def test_an_attempt_that_was_reserved_before_a_crash_is_started_once() -> None:
    first = look(scene(TRAIN, None, attempt=2, recorded=False, restarts=1))
    assert first.actions == ["EnsureConfigMap train-2", "CreateJob train-2"]
    crashed = look(replace(first.observed, children=(child(TRAIN, attempt=2),)))
    assert "CreateJob train-2" not in crashed.actions
    assert crashed.stage(TRAIN).restarts == 1


def test_the_cause_of_the_last_failure_stays_with_the_stage_until_it_is_done() -> None:
    seen = look(scene(TRAIN, FAILED, pods=(failed(message="boom"),)))
    assert "boom" in seen.stage(TRAIN).message
    done = look(seen.then(children=(child(TRAIN, COMPLETE, attempt=2),), pods=()))
    assert done.stage(TRAIN).message is None
