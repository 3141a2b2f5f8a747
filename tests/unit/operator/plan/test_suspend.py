"""Suspending and resuming: every stage is held, nothing is lost, and nothing counts as a restart."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage

from .builders import (
    COMPLETE,
    FAILED,
    FAILING,
    MERGE,
    NOW,
    PREPARE,
    TRAIN,
    child,
    failed,
    later,
    look,
    new_run,
    pod,
    scene,
)

HELD: dict[str, Any] = {"runPolicy": {"suspend": True}}


def test_a_run_that_is_suspended_from_the_start_starts_nothing() -> None:
    seen = look(new_run(**HELD))
    assert seen.actions == []
    assert seen.headline == ("Suspended", "Suspended")
    assert seen.plan.requeue_after is None


def test_a_run_that_was_suspended_from_the_start_begins_with_its_first_attempt() -> None:
    seen = look(look(new_run(**HELD)).then(spec={"runPolicy": {}}))
    assert seen.actions == ["EnsureClaim", "EnsureConfigMap prepare-1", "CreateJob prepare-1"]


@pytest.mark.parametrize("stage", list(Stage))
def test_a_running_attempt_is_given_up_first_and_stopped_then(stage: Stage) -> None:
    seen = look(scene(stage, suspend=True))
    assert seen.actions == []
    assert (seen.stage(stage).attempt, seen.stage(stage).job_name, seen.plan.requeue_after) == (2, None, 0)

    again = look(seen.then())
    assert again.actions == [f"DeleteJob support-{stage}-1"]
    assert again.headline == ("Suspended", "Suspending")
    assert again.stage(stage).attempt == 2


def test_the_user_is_told_that_training_saves_a_checkpoint() -> None:
    stopping = look(scene(TRAIN, suspend=True)).message
    assert stopping == "stopping support-train-1; the training saves a checkpoint first"
    assert look(scene(MERGE, suspend=True)).message == "stopping support-merge-1"


@pytest.mark.parametrize("stage", list(Stage))
def test_a_held_run_rests(stage: Stage) -> None:
    held = look(scene(stage, None, attempt=2, recorded=False, suspend=True))
    assert held.headline == ("Suspended", "Suspended")
    rest = look(held.then())
    assert (rest.plan.actions, rest.plan.status, rest.plan.requeue_after) == ((), None, None)


@pytest.mark.parametrize("stage", list(Stage))
def test_resume_starts_the_reserved_attempt_without_a_restart(stage: Stage) -> None:
    held = look(scene(stage, None, attempt=2, restarts=1, recorded=False, suspend=True))
    seen = look(held.then(spec={"runPolicy": {}}))
    assert seen.actions == [f"EnsureConfigMap {stage}-2", f"CreateJob {stage}-2"]
    assert seen.stage(stage).restarts == 1


def test_resume_waits_until_the_stopped_pods_are_gone() -> None:
    resumed = scene(TRAIN, None, attempt=2, recorded=False)
    assert look(replace(resumed, children=(child(TRAIN, deleting=True),))).actions == []


def test_a_resume_before_the_stop_was_sent_does_not_run_both() -> None:
    given_up = look(scene(TRAIN, suspend=True))
    assert look(given_up.then(spec={"runPolicy": {}})).actions == ["DeleteJob support-train-1"]


def test_a_job_that_only_its_creation_tells_of_is_given_up_too() -> None:
    seen = look(scene(TRAIN, recorded=False, suspend=True))
    assert seen.stage(TRAIN).attempt == 2


def test_a_job_deleted_by_hand_while_held_is_no_failure() -> None:
    seen = look(scene(TRAIN, None, suspend=True))
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (2, None)


def test_a_failure_before_the_suspension_counts_and_then_holds() -> None:
    seen = look(scene(TRAIN, FAILED, suspend=True, pods=(failed(),)))
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (2, 1)
    assert look(seen.then(pods=())).headline == ("Suspended", "Suspended")


def test_a_failing_attempt_may_say_why_before_the_run_holds() -> None:
    seen = look(scene(TRAIN, FAILING, suspend=True))
    assert (seen.actions, seen.stage(TRAIN).attempt) == ([], 1)
    assert seen.headline == ("Suspended", "Suspending")


def test_a_stage_that_completes_while_suspended_is_done() -> None:
    seen = look(scene(PREPARE, COMPLETE, suspend=True))
    assert seen.condition("Prepared").status == "True"
    assert (seen.headline, seen.actions) == (("Suspended", "Suspended"), [])


def test_a_run_whose_last_stage_completes_cannot_be_held() -> None:
    assert look(scene(MERGE, COMPLETE, suspend=True)).status.phase == "Succeeded"


def test_suspending_a_finished_run_changes_nothing() -> None:
    done = look(scene(MERGE, COMPLETE))
    seen = look(done.then(spec=HELD))
    assert (seen.headline, seen.actions) == (("Succeeded", "Completed"), [])


def test_the_progress_is_kept_without_a_pace() -> None:
    progress = {"step": 40, "totalSteps": 50, "steps": "40/50", "eta": "1m", "tokensPerSecond": 9.0}
    observed = scene(TRAIN, suspend=True)
    status = type(observed.job.status).model_validate(observed.job.status.document() | {"progress": progress})
    kept = look(replace(observed, job=observed.job.replace(status=status))).status.progress
    assert (kept.steps, kept.eta, kept.tokens_per_second) == ("40/50", None, None)


WITHIN: dict[str, Any] = {"activeDeadlineSeconds": 7200}  # scenes began an hour ago


def test_the_time_held_is_counted_from_the_first_pass_to_the_resume() -> None:
    held = look(scene(TRAIN, None, attempt=2, recorded=False, suspend=True))
    assert (held.status.suspend_time, held.status.suspended_seconds) == (NOW, None)
    resumed = look(look(held.then(), later(minutes=5)).then(spec={"runPolicy": {}}), later(minutes=10))
    assert (resumed.status.suspend_time, resumed.status.suspended_seconds) == (None, 600)


def test_several_holds_add_up() -> None:
    seen = look(scene(TRAIN, None, attempt=2, recorded=False, suspend=True))
    for minute in (10, 30):
        resumed = look(seen.then(spec={"runPolicy": {}}), later(minutes=minute))
        seen = look(resumed.then(spec=HELD, children=()), later(minutes=minute + 10))
    assert look(seen.then(spec={"runPolicy": {}}), later(minutes=50)).status.suspended_seconds == 30 * 60


def test_the_time_held_does_not_count_toward_the_deadline() -> None:
    policy: dict[str, Any] = {"runPolicy": WITHIN}
    held = look(scene(TRAIN, None, attempt=2, recorded=False, suspend=True, **policy))
    assert held.plan.requeue_after is None
    resumed = look(held.then(spec=policy), later(hours=9))
    assert resumed.actions == ["EnsureConfigMap train-2", "CreateJob train-2"]
    up = look(resumed.then(children=(child(TRAIN, attempt=2),)), later(hours=9))
    assert up.plan.requeue_after == 3600
    running = resumed.then(children=(child(TRAIN, attempt=2),))
    assert look(running, later(hours=9, minutes=59)).headline == ("Training", "Running")
    assert look(running, later(hours=10)).headline == ("Failed", "DeadlineExceeded")


def test_a_run_that_is_already_over_its_deadline_fails_when_it_is_resumed() -> None:
    held = look(scene(TRAIN, None, attempt=2, recorded=False, suspend=True, runPolicy={"activeDeadlineSeconds": 60}))
    seen = look(held.then(spec={"runPolicy": {"activeDeadlineSeconds": 60}}))
    assert seen.headline == ("Failed", "DeadlineExceeded")


def test_a_run_that_ends_while_it_is_held_is_not_held_any_more() -> None:
    held = look(scene(MERGE, suspend=True))
    done = look(held.then(children=(child(MERGE, COMPLETE, attempt=2),)), later(minutes=3))
    assert (done.status.phase, done.status.suspend_time, done.status.suspended_seconds) == ("Succeeded", None, 180)


def test_stopping_pods_on_a_lost_node_are_told() -> None:
    stopping = scene(TRAIN, None, attempt=2, recorded=False, suspend=True)
    lost = pod(1, unreachable=True, deleted_at=later(minutes=-5))
    seen = look(replace(stopping, children=(child(TRAIN, deleting=True),), pods=(lost,)))
    assert seen.headline == ("Suspended", "NodeLost")
    assert "kubectl delete node node-1" in seen.message
    assert seen.plan.requeue_after == 15
