"""The end of a run: it stays the end, what still runs is stopped, and child Jobs go when their time is over."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Phase, Reason, Stage
from qwensft_operator.plan.types import JobState, Obstacle

from .builders import COMPLETE, FAILED, MERGE, NOW, PREPARE, TRAIN, child, failed, later, look, scene

DEADLINE: dict[str, Any] = {"runPolicy": {"activeDeadlineSeconds": 7200}}  # scenes began an hour ago


def test_a_finished_run_rests() -> None:
    for observed in (scene(MERGE, COMPLETE), scene(TRAIN, FAILED, pods=(failed(code=78),))):
        rest = look(look(observed).then(pods=()))
        assert (rest.plan.actions, rest.plan.status, rest.plan.events, rest.plan.requeue_after) == ((), None, (), None)


def test_a_failed_run_stays_failed_when_its_restarts_are_raised() -> None:
    over = look(scene(TRAIN, FAILED, runPolicy={"maxRestarts": 0}))
    seen = look(over.then(spec={"runPolicy": {"maxRestarts": 9}}))
    assert (seen.status.phase, seen.actions) == ("Failed", [])


def test_a_job_that_completes_after_the_end_does_not_change_it() -> None:
    over = look(scene(TRAIN, **DEADLINE), later(hours=2))
    assert look(over.then(children=(child(TRAIN, COMPLETE),))).status.phase == "Failed"


def test_a_run_over_its_deadline_is_failed_first_and_stopped_then() -> None:
    seen = look(scene(TRAIN, **DEADLINE), later(hours=1))
    assert (seen.headline, seen.actions, seen.plan.requeue_after) == (("Failed", "DeadlineExceeded"), [], 0)
    assert look(seen.then()).actions == ["DeleteJob support-train-1"]


def test_a_run_before_its_deadline_is_looked_at_when_it_comes() -> None:
    seen = look(scene(TRAIN, **DEADLINE), later(minutes=59))
    assert seen.headline == ("Training", "Running")
    assert seen.plan.requeue_after == 60


def test_child_jobs_are_kept_without_a_ttl() -> None:
    assert look(look(scene(MERGE, COMPLETE)).then(), later(days=9)).actions == []


def test_child_jobs_go_when_their_time_is_over() -> None:
    done = look(scene(MERGE, COMPLETE, runPolicy={"ttlSecondsAfterFinished": 60})).then()
    early = look(done, later(seconds=59))
    assert (early.actions, early.plan.requeue_after) == ([], 1)
    over = look(done, later(seconds=60))
    assert (over.actions, over.plan.requeue_after) == (["DeleteJob support-merge-1"], None)


def test_an_end_that_no_calendar_has_a_day_after_is_waited_for() -> None:
    done = look(scene(MERGE, COMPLETE, runPolicy={"ttlSecondsAfterFinished": 60})).then()
    last_day = done.job.status.replace(completion_time=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert look(replace(done, job=done.job.replace(status=last_day))).actions == []


def test_child_jobs_stay_until_the_end_is_written() -> None:
    seen = look(scene(MERGE, COMPLETE, runPolicy={"ttlSecondsAfterFinished": 0}))
    assert (seen.status.phase, seen.actions) == ("Succeeded", [])
    assert look(seen.then()).actions == ["DeleteJob support-merge-1"]


def test_a_job_on_its_way_out_is_not_deleted_twice() -> None:
    done = look(scene(MERGE, COMPLETE, runPolicy={"ttlSecondsAfterFinished": 0}))
    assert look(done.then(children=(child(MERGE, COMPLETE, deleting=True),))).actions == []


def test_vanished_jobs_of_a_finished_run_are_no_loss() -> None:
    done = look(scene(MERGE, COMPLETE))
    assert look(done.then(children=())).plan.status is None


def test_a_refused_deletion_does_not_overwrite_the_last_words() -> None:
    done = look(scene(MERGE, COMPLETE, runPolicy={"ttlSecondsAfterFinished": 0}))
    refused = look(replace(done.then(), obstacle=Obstacle(Reason.FORBIDDEN, "no")))
    assert refused.plan.status is None


def test_last_words_that_another_version_wrote_over_are_found_again() -> None:
    over = look(scene(TRAIN, FAILED, pods=(failed(code=78, message="row 7"),))).then(pods=())
    conditions = tuple(
        c.replace(status="Unknown", reason="InvalidSpec") if c.type == "Succeeded" else c
        for c in over.job.status.conditions
    )
    status = over.job.status.replace(conditions=conditions)
    seen = look(replace(over, job=over.job.replace(status=status)))
    assert seen.headline == ("Failed", "TrainingFailed")
    assert "row 7" in seen.message


def test_an_end_that_only_a_newer_version_knows_stands() -> None:
    over = look(scene(TRAIN, FAILED, pods=(failed(code=78, message="row 7"),), runPolicy={"activeDeadlineSeconds": 9}))
    words = {"type": "Succeeded", "status": "Unknown", "reason": "Archived", "message": "see the archive"}
    conditions = tuple(
        c.replace(**words) if c.type == "Succeeded" else c.replace(status="False") for c in over.status.conditions
    )
    status = over.status.replace(phase="Archived", conditions=conditions)
    observed = replace(over.observed, job=over.observed.job.replace(status=status), children=())
    kept = look(observed, later(days=1))
    assert (kept.plan.status, kept.plan.events, kept.plan.requeue_after) == (None, (), None)
    assert look(look(observed).then(spec={"runPolicy": {"maxRestarts": 1}})).status.phase == "Archived"


def test_the_moment_of_the_end_is_kept() -> None:
    done = look(scene(MERGE, COMPLETE))
    assert look(done.then(spec={"runPolicy": {"maxRestarts": 1}}), later(days=1)).status.completion_time == NOW


@pytest.mark.parametrize("state", [None, *JobState])
@pytest.mark.parametrize("stage", [PREPARE, TRAIN])
def test_nothing_is_started_after_the_end_whatever_is_observed(stage: Stage, state: JobState | None) -> None:
    seen = look(scene(stage, state, status={"phase": Phase.FAILED, "completion_time": NOW}))
    assert seen.status.phase == "Failed"
    assert [a for a in seen.actions if not a.startswith("DeleteJob")] == []


def test_a_deadline_between_the_training_and_the_merge_ends_the_run_until_somebody_edits_it() -> None:
    over = look(scene(TRAIN, COMPLETE, **DEADLINE), later(hours=1))
    assert over.headline == ("Failed", "DeadlineExceeded")
    assert over.condition("Trained").status == "True"
    rest = look(over.then(), later(hours=2))
    assert (rest.plan.actions, rest.plan.status) == ((), None)
    edited = look(over.then(spec={"merge": {"shardSizeGB": 4}}), later(hours=2))
    assert edited.headline == ("Merging", "MergeChanged")


def test_a_run_that_its_deadline_ended_before_the_merge_merges_when_it_is_retried() -> None:
    over = look(scene(TRAIN, COMPLETE, **DEADLINE), later(hours=1))
    again = look(over.then(spec={"runPolicy": {"retry": 1}}), later(hours=2))
    assert again.headline == ("Merging", "RetryRequested")
    assert look(again.then(), later(hours=2)).actions == ["EnsureConfigMap merge-1", "CreateJob merge-1"]


def test_an_edit_of_the_merge_just_before_the_deadline_is_followed_when_the_run_is_retried() -> None:
    edited = look(scene(MERGE, **DEADLINE)).then(spec={"merge": {"shardSizeGB": 4}, **DEADLINE})
    over = look(edited, later(hours=1))
    assert over.headline == ("Failed", "DeadlineExceeded")
    stopped = look(over.then(), later(hours=1))
    assert (stopped.plan.status, stopped.actions) == (None, ["DeleteJob support-merge-1"])
    retry = {"merge": {"shardSizeGB": 4}, "runPolicy": {"retry": 1}}
    again = look(stopped.then(spec=retry, children=(), config_maps=frozenset({"support-merge-1"})), later(hours=2))
    assert look(again.then(), later(hours=2)).actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]
