"""A clock that is set back, or differs from the cluster's: no wait becomes longer by it than what it was given for."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Progress, Stage
from qwensft_operator.plan import claim_needs_events, job_needs_events, needs_events
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.suspension import seconds_active
from qwensft_operator.plan.times import has_lasted, timestamp
from qwensft_operator.plan.types import Observed, PodView, Report, Scrape, Trouble

from .builders import FAILED, NOW, PREPARE, TRAIN, child, failed, later, look, pod, scene

HOUR = timedelta(hours=1)
LIMITED: dict[str, Any] = {"runPolicy": {"activeDeadlineSeconds": 7200}}  # scenes began an hour ago


@pytest.mark.parametrize("seconds", [30, -30, 3600, -3600])
def test_what_began_long_ago_or_is_still_to_come_has_lasted(seconds: int) -> None:
    assert has_lasted(later(seconds=-seconds), timedelta(seconds=30), NOW)


@pytest.mark.parametrize("seconds", [0, 29, -29])
def test_what_has_just_begun_has_not_lasted(seconds: int) -> None:
    assert not has_lasted(later(seconds=-seconds), timedelta(seconds=30), NOW)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("back", [timedelta(seconds=11), HOUR, timedelta(days=400)])
def test_an_attempt_starts_no_later_than_it_would_had_the_clock_not_been_set_back(
    stage: Stage, back: timedelta
) -> None:
    reserved = look(scene(stage, FAILED, pods=(failed(),))).then(pods=(), children=())
    seen = look(reserved, NOW - back)
    assert (seen.actions, seen.plan.requeue_after) == ([], 10)
    assert f"attempt 2 starts at {timestamp(NOW - back + timedelta(seconds=10))}" in seen.message
    assert look(seen.then(), NOW - back + timedelta(seconds=9)).actions == []
    assert f"CreateJob {stage}-2" in look(seen.then(), NOW - back + timedelta(seconds=10)).actions


def test_a_clock_that_is_set_back_within_a_wait_changes_nothing() -> None:
    reserved = look(scene(TRAIN, FAILED, pods=(failed(),))).then(pods=(), children=())
    seen = look(reserved, NOW - timedelta(seconds=10))
    assert (seen.plan.status, seen.plan.requeue_after) == (None, 20)


def test_a_wait_that_was_spread_is_one_that_was_given() -> None:
    half = (
        pod(0, scheduled_at=later(minutes=-4)),
        PodView("pod-1", index=1, unschedulable="0/1 nodes are available"),
    )
    gave_way = look(scene(TRAIN, pods=half, child_fields={"ready": 0}))
    assert gave_way.headline == ("Restarting", "HalfScheduled")
    reserved = gave_way.then(pods=(), children=())
    assert look(reserved).plan.status is None
    seen = look(reserved, NOW - HOUR)
    wait = seen.stage(TRAIN).retry_time - (NOW - HOUR)
    assert timedelta(seconds=10) <= wait < timedelta(seconds=20)
    assert look(seen.then(), NOW - HOUR).plan.status is None, "the wait is given once"


def test_a_wait_of_which_nobody_knows_how_many_failures_were_before_it_may_be_long() -> None:
    reserved = look(scene(TRAIN, FAILED, pods=(failed(),))).then(pods=(), children=())
    stages = reserved.job.status.stages
    assert stages.train is not None
    record = stages.train.replace(consecutive_failures=None, retry_time=later(minutes=9))
    status = reserved.job.status.replace(stages=stages.replace(train=record))
    unknown = replace(reserved, job=reserved.job.replace(status=status))
    assert look(unknown).plan.requeue_after == 540
    assert look(unknown, NOW - HOUR).plan.requeue_after == 300


def test_a_deadline_is_late_by_no_more_than_was_used_up_of_it() -> None:
    back = look(scene(TRAIN, **LIMITED), NOW - timedelta(days=3))
    assert back.status.start_time == NOW - timedelta(days=3)
    assert back.plan.requeue_after == 7200
    over = look(back.then(), NOW - timedelta(days=3) + timedelta(hours=2))
    assert over.headline == ("Failed", "DeadlineExceeded")


def test_a_deadline_is_late_by_as_much_as_the_clock_was_set_back_where_that_is_less() -> None:
    back = look(scene(TRAIN, **LIMITED), NOW - timedelta(minutes=30))
    assert (back.status.start_time, back.plan.requeue_after) == (NOW - HOUR, 5400)


def test_a_hold_in_which_the_clock_was_set_leaves_no_time_below_none() -> None:
    held = look(scene(TRAIN, child_fields={"suspended": True, "ready": 0}, **LIMITED))
    ahead = look(held.then(children=(child(TRAIN),)), NOW + timedelta(days=9))  # nine days held, it seems
    assert ahead.status.suspended_seconds == 9 * 86400
    right = look(ahead.then(), later(minutes=1))
    assert (seconds_active(right.status, later(minutes=1)), right.status.suspended_seconds) == (0, None)


def test_a_run_that_is_held_keeps_no_time_below_none_either() -> None:
    times = {"start_time": NOW, "suspend_time": later(minutes=5), "suspended_seconds": 600}
    seen = look(scene(TRAIN, None, recorded=False, suspend=True, status=times), later(minutes=6))
    assert (seen.headline, seen.status.suspend_time) == (("Suspended", "Suspended"), later(minutes=5))
    assert seconds_active(seen.status, later(minutes=6)) == 0


def test_a_run_that_has_ended_keeps_its_times() -> None:
    ended = look(scene(TRAIN, FAILED, pods=(failed(code=78),)))
    assert ended.headline[0] == "Failed"
    assert look(ended.then(), NOW - timedelta(days=3)).plan.status is None


def test_jobs_of_a_run_that_ended_in_time_to_come_are_looked_at_again_before_that() -> None:
    ended = look(scene(TRAIN, FAILED, pods=(failed(code=78),), runPolicy={"ttlSecondsAfterFinished": 60}))
    seen = look(ended.then(), NOW - HOUR)
    assert (seen.actions, seen.plan.requeue_after) == ([], 60)
    assert look(ended.then(), later(seconds=61)).actions == ["DeleteJob support-train-1"]


def test_a_gang_that_is_half_scheduled_by_a_clock_that_is_ahead_gives_its_nodes_back() -> None:
    half = (pod(0, scheduled_at=NOW + HOUR), PodView("pod-1", index=1, unschedulable="0/1 nodes are available"))
    assert look(scene(TRAIN, pods=half, child_fields={"ready": 0})).headline == ("Restarting", "HalfScheduled")
    new = (replace(half[0], scheduled_at=later(seconds=20)), half[1])
    assert look(scene(TRAIN, pods=new, child_fields={"ready": 0})).headline == ("Training", "Unschedulable")


def test_a_trouble_that_kubernetes_tells_of_by_a_clock_that_is_ahead_is_told() -> None:
    trouble = Trouble("FailedMount", "no such export", since=NOW + HOUR)
    hung = pod(0, phase="Pending", trouble=trouble, waiting_reason="ContainerCreating")
    seen = look(scene(PREPARE, pods=(hung,), child_fields={"ready": 0}))
    assert seen.headline == ("Preparing", "VolumeMountFailed")


def test_objects_from_time_to_come_are_asked_about() -> None:
    made = {"metadata": {"creationTimestamp": timestamp(NOW + HOUR)}}
    assert claim_needs_events(made, NOW)
    assert needs_events({**made, "spec": {"nodeName": "node-0"}}, NOW)
    run = Run(Observed(job=scene(TRAIN).job))
    assert job_needs_events(run, child(TRAIN, created_at=NOW + HOUR), 0, NOW)
    assert not job_needs_events(run, child(TRAIN, created_at=NOW + timedelta(seconds=9)), 0, NOW)


def test_sidecars_that_outlive_the_trainer_by_a_clock_that_is_ahead_do_not_keep_the_run() -> None:
    kept = pod(0, exit_code=0, finished_at=NOW + HOUR, sidecars=("proxy",), report=Report("Succeeded"))
    seen = look(scene(PREPARE, pods=(kept,), child_fields={"ready": 0}))
    assert seen.condition("Prepared").status == "True"


def trained(at: timedelta, step: int) -> Observed:
    known = Progress(step=10, total_steps=100, last_update_time=NOW + at)
    return scene(TRAIN, status={"progress": known}, observed={"scrape": Scrape(step=step, total_steps=100)})


def told(observed: Observed) -> int:
    """The step that the status shows after a run has been seen running."""
    first = look(replace(observed, scrape=None))
    seen = look(first.then(scrape=observed.scrape))
    return int(seen.status.progress.step)


def test_figures_are_told_again_although_the_last_ones_are_from_time_to_come() -> None:
    assert told(trained(timedelta(seconds=-59), 20)) == 10
    assert told(trained(timedelta(seconds=-60), 20)) == 20
    assert told(trained(HOUR, 20)) == 20


def test_an_attempt_that_begins_in_time_to_come_does_not_have_every_figure_written() -> None:
    observed = replace(trained(timedelta(seconds=-5), 20), children=(child(TRAIN, created_at=NOW + HOUR),))
    assert told(observed) == 10
