"""Waiting between attempts, and starting a failed run again when the user asks for it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Phase, Stage, StageStatus
from qwensft_operator.plan.types import Observed

from .builders import (
    COMPLETE,
    FAILED,
    FAILING,
    MERGE,
    NOW,
    PREPARE,
    TRAIN,
    Seen,
    child,
    failed,
    interrupted,
    later,
    look,
    scene,
)

OFTEN: dict[str, Any] = {"runPolicy": {"maxRestarts": 100}, "prepare": {"retries": 20}, "merge": {"retries": 20}}


def after(failures: int, stage: Stage = TRAIN, *, lasted: timedelta = timedelta(seconds=5), **fields: Any) -> Observed:
    """A stage whose attempt has failed after some time, and so many before it in a row."""
    ended = {"created_at": NOW - lasted, "finished_at": NOW}
    observed = scene(stage, FAILED, attempt=failures + 1, child_fields=ended, **{**OFTEN, **fields})
    return with_record(observed, stage, consecutive_failures=failures or None)


def with_record(observed: Observed, stage: Stage, **changes: Any) -> Observed:
    status = observed.job.status
    record = (getattr(status.stages, stage.value) or StageStatus()).replace(**changes)
    stages = status.stages.replace(**{stage.value: record})
    return replace(observed, job=observed.job.replace(status=status.replace(stages=stages)))


def wait_of(seen: Seen) -> float:
    """Seconds until the next attempt, as the status has it."""
    known = next(r.retry_time for r in (seen.status.stages.merge, seen.status.stages.train) if r and r.retry_time)
    return float((known - NOW).total_seconds())


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 10), (1, 20), (2, 40), (3, 80), (4, 160), (5, 300), (6, 300), (99, 300)]
)
def test_the_wait_doubles_with_every_failure_up_to_five_minutes(failures: int, seconds: int) -> None:
    seen = look(after(failures))
    assert (wait_of(seen), seen.plan.requeue_after) == (seconds, seconds)
    assert seen.stage(TRAIN).consecutive_failures == failures + 1


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_waits(stage: Stage) -> None:
    seen = look(after(0, stage))
    reserved = seen.then(pods=())
    assert look(reserved, later(seconds=9)).actions == []
    assert look(reserved, later(seconds=10)).actions == [f"EnsureConfigMap {stage}-2", f"CreateJob {stage}-2"]


def test_evictions_in_quick_succession_are_slowed_down_too() -> None:
    observed = replace(after(3), pods=(interrupted(disrupted="EvictionByEvictionAPI"),))
    seen = look(observed)
    assert (seen.headline, seen.stage(TRAIN).restarts, wait_of(seen)) == (("Restarting", "Preempted"), None, 80)


def test_an_attempt_that_had_been_going_well_is_followed_up_quickly() -> None:
    seen = look(after(5, lasted=timedelta(minutes=10, seconds=1)))
    assert (wait_of(seen), seen.stage(TRAIN).consecutive_failures) == (10, 1)
    assert wait_of(look(after(5, lasted=timedelta(minutes=10)))) == 300


def test_a_job_deleted_by_hand_waits_as_well() -> None:
    assert wait_of(look(scene(TRAIN, None))) == 10


def test_the_wait_tells_the_cause_and_the_moment_of_the_next_attempt() -> None:
    seen = look(replace(after(0), pods=(failed(reason="OutOfMemory", message="lower cutoffLen"),)))
    cause = "pod pod-0 (node rank 0) on node node-0 exited with code 1: lower cutoffLen"
    told = f"{cause}; attempt 2 starts at 2026-01-02T12:00:10Z"
    assert (seen.headline, seen.message) == (("Restarting", "OutOfMemory"), told)
    assert (seen.stage(TRAIN).reason, seen.stage(TRAIN).message) == ("OutOfMemory", cause)


def test_a_wait_is_written_and_told_once() -> None:
    waiting = look(look(after(2)).then(pods=()), later(seconds=30))
    assert (waiting.plan.actions, waiting.plan.status, waiting.plan.events) == ((), None, ())
    assert waiting.plan.requeue_after == 10


def test_pods_of_the_failed_attempt_that_come_up_again_are_stopped_during_the_wait() -> None:
    reserved = look(after(2)).then(pods=())
    assert look(replace(reserved, children=(child(TRAIN),))).actions == ["DeleteJob support-train-1"]


def test_a_run_may_be_held_during_the_wait() -> None:
    held = look(look(after(2)).then(spec={"runPolicy": {"suspend": True}}), later(seconds=5))
    assert (held.headline, held.plan.requeue_after) == (("Suspended", "Suspended"), None)
    resumed = held.then(spec={"runPolicy": {}})
    assert look(resumed, later(seconds=39)).headline == ("Restarting", "TrainingFailed")
    assert look(resumed, later(seconds=40)).starts == ["EnsureConfigMap train-4", "CreateJob train-4"]


def test_the_deadline_may_come_during_the_wait() -> None:
    waiting = look(after(5, runPolicy={"activeDeadlineSeconds": 3660, "maxRestarts": 9}))
    assert waiting.plan.requeue_after == 60
    assert look(waiting.then(), later(seconds=60)).headline == ("Failed", "DeadlineExceeded")


def test_a_suspension_that_stops_an_attempt_forgets_the_failures_before_it() -> None:
    running = with_record(scene(TRAIN, attempt=3, suspend=True), TRAIN, consecutive_failures=2, reason="DiskFull")
    record = look(running).stage(TRAIN)
    assert (record.attempt, record.consecutive_failures, record.retry_time, record.reason) == (4, None, None, None)


def test_a_stage_that_is_done_has_no_trace_of_failures_but_their_number() -> None:
    again = look(look(after(0)).then(pods=()), later(seconds=10))
    done = look(again.then(children=(child(TRAIN, COMPLETE, attempt=2),)), later(minutes=5)).stage(TRAIN)
    assert (done.restarts, done.consecutive_failures, done.retry_time, done.reason, done.message) == (1, *[None] * 4)


def test_an_edited_merge_does_not_wait_for_the_failures_of_the_old_one() -> None:
    seen = look(look(scene(MERGE)).then(spec={"merge": {"dtype": "fp32"}}, children=(child(MERGE, FAILED),)))
    assert (seen.headline, seen.stage(MERGE).retry_time) == (("Merging", "MergeChanged"), None)


def over(stage: Stage = TRAIN, **spec: Any) -> Observed:
    """A run that has failed for good in a stage."""
    seen = look(scene(stage, FAILED, attempt=3, restarts=2, pods=(failed(code=78, reason="InvalidModel"),), **spec))
    assert seen.status.phase == "Failed"
    return seen.then(pods=())


def retried(observed: Observed, nonce: int = 1, **policy: Any) -> Observed:
    """The user has set spec.runPolicy.retry."""
    return Seen(look(observed).plan, observed).then(spec={"runPolicy": {"retry": nonce, **policy}})


@pytest.mark.parametrize("stage", list(Stage))
def test_a_failed_run_starts_again_from_the_stage_that_failed(stage: Stage) -> None:
    seen = look(retried(over(stage)), later(days=1))
    assert seen.condition("Succeeded").reason == "RetryRequested"
    assert (seen.stage(stage).attempt, seen.stage(stage).restarts, seen.status.retry) == (4, None, 1)
    assert look(seen.then(), later(days=1)).starts == [f"EnsureConfigMap {stage}-4", f"CreateJob {stage}-4"]
    earlier = [s for s in Stage if list(Stage).index(s) < list(Stage).index(stage)]
    assert all(seen.condition({"prepare": "Prepared", "train": "Trained"}[s]).status == "True" for s in earlier)


def test_a_retried_run_is_reconciling_again_and_no_longer_stalled() -> None:
    seen = look(retried(over()))
    assert [seen.condition(c).status for c in ("Succeeded", "Reconciling", "Stalled")] == ["Unknown", "True", "False"]
    assert (seen.status.phase, seen.status.completion_time, seen.status.restarts) == ("Restarting", None, None)
    assert seen.events == [("Normal", "RetryRequested")]


def test_a_retry_has_all_restarts_and_the_first_wait_again() -> None:
    seen = look(look(retried(over())).then())
    again = look(seen.then(children=(child(TRAIN, FAILED, attempt=4),)))
    assert (again.stage(TRAIN).restarts, again.stage(TRAIN).consecutive_failures, again.plan.requeue_after) == (
        1,
        1,
        10,
    )


def test_the_same_nonce_retries_once() -> None:
    seen = look(look(retried(over())).then())
    failed_again = look(seen.then(children=(child(TRAIN, FAILED, attempt=4),), pods=(failed(code=78),)))
    assert failed_again.status.phase == "Failed"
    assert look(failed_again.then(pods=())).plan.status is None
    assert look(failed_again.then(pods=(), spec={"runPolicy": {"retry": 2}})).status.retry == 2


def test_a_nonce_that_stood_there_before_the_failure_is_no_request() -> None:
    observed = over(runPolicy={"retry": 7})
    assert observed.job.status.retry == 7
    assert look(observed).plan.status is None


def test_a_nonce_that_is_taken_away_is_no_request() -> None:
    observed = over(runPolicy={"retry": 7})
    seen = look(Seen(look(observed).plan, observed).then(spec={"runPolicy": {}}))
    assert (seen.status.phase, seen.status.retry) == ("Failed", 7)


def test_a_change_while_the_run_goes_on_is_only_noted() -> None:
    seen = look(look(scene(TRAIN)).then(spec={"runPolicy": {"retry": 3}}))
    assert (seen.headline, seen.stage(TRAIN).attempt, seen.status.retry) == (("Training", "Running"), 1, 3)


def test_a_run_that_has_succeeded_is_not_started_again() -> None:
    seen = look(look(scene(MERGE, COMPLETE)).then(spec={"runPolicy": {"retry": 1}}))
    assert (seen.status.phase, seen.actions) == ("Succeeded", [])


def test_a_suspended_run_is_retried_only_when_it_is_resumed() -> None:
    held = look(retried(over(), suspend=True))
    assert (held.status.phase, held.status.retry) == ("Failed", None)
    assert look(held.then(spec={"runPolicy": {"retry": 1}})).condition("Succeeded").reason == "RetryRequested"


def test_the_deadline_begins_anew_with_a_retry() -> None:
    observed = over(runPolicy={"activeDeadlineSeconds": 7200})
    tomorrow = later(days=1)
    seen = look(retried(observed, activeDeadlineSeconds=7200), tomorrow)
    assert (seen.status.start_time, seen.status.suspended_seconds) == (tomorrow, None)
    assert look(seen.then(), later(days=1, hours=1)).starts == ["EnsureConfigMap train-4", "CreateJob train-4"]


def test_a_retry_waits_until_the_pods_of_the_failed_run_are_gone() -> None:
    ended = look(scene(TRAIN, runPolicy={"activeDeadlineSeconds": 60}))
    assert ended.status.phase == "Failed"
    seen = look(retried(ended.then(), activeDeadlineSeconds=60))
    assert look(seen.then()).actions == ["DeleteJob support-train-1"]


def test_a_retry_starts_a_reserved_attempt_at_once() -> None:
    ended = look(look(after(5, runPolicy={"activeDeadlineSeconds": 3660, "maxRestarts": 9})).then(), later(seconds=60))
    assert (ended.status.phase, ended.stage(TRAIN).attempt) == ("Failed", 7)
    seen = look(ended.then(spec={"runPolicy": {"retry": 1}}), later(seconds=61))
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).retry_time) == (7, None)
    assert look(seen.then(), later(seconds=61)).starts == ["EnsureConfigMap train-7", "CreateJob train-7"]


def test_a_stage_that_completed_after_the_end_is_not_run_again() -> None:
    ended = look(scene(TRAIN, runPolicy={"activeDeadlineSeconds": 60}))
    seen = look(retried(ended.then(children=(child(TRAIN, COMPLETE),))))
    assert seen.stage(TRAIN).attempt == 1
    done = look(seen.then())
    assert (done.condition("Trained").status, done.status.phase) == ("True", "Merging")


def test_a_failed_stage_that_is_not_wanted_any_more_is_left_out() -> None:
    observed = over(MERGE)
    off = Seen(look(observed).plan, observed).then(spec={"merge": {"enabled": False}, "runPolicy": {"retry": 1}})
    seen = look(off)
    assert (seen.headline, seen.status.retry) == (("Succeeded", "Completed"), 1)


def test_a_failed_merge_that_is_edited_and_retried_starts_once() -> None:
    observed = over(MERGE)
    both = Seen(look(observed).plan, observed).then(spec={"merge": {"dtype": "fp32"}, "runPolicy": {"retry": 1}})
    seen = look(both)
    assert (seen.headline, seen.stage(MERGE).attempt) == (("Merging", "MergeChanged"), 4)
    started = look(seen.then())
    assert (started.starts, started.status.retry) == (["EnsureConfigMap merge-4", "CreateJob merge-4"], 1)


def test_a_retry_after_the_child_jobs_were_removed_goes_on_counting_attempts() -> None:
    seen = look(retried(replace(over(), children=())))
    assert seen.stage(TRAIN).attempt == 4


def test_a_failed_preparation_is_retried_as_such() -> None:
    seen = look(retried(over(PREPARE)))
    assert seen.headline == (Phase.PREPARING, "RetryRequested")


def test_a_failing_job_is_waited_for_before_the_wait_begins() -> None:
    assert look(scene(TRAIN, FAILING)).stage(TRAIN).retry_time is None
