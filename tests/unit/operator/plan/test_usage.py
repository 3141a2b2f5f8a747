"""The accelerator time of a run is told attempt by attempt, with what was of no use, and costs no write of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Phase, Usage
from qwensft_operator.plan import Observed, decide
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import PodView, Report, Scrape
from qwensft_operator.plan.usage import usage_of

from .builders import COMPLETE, EARLIER, FAILED, MERGE, NOW, PREPARE, RUNNING, TRAIN, failed, look, pod, scene

GPUS: dict[str, Any] = {"worker": {"accelerator": {"count": 4}}}
HOUR = 3600


def at(seconds: float) -> datetime:
    """A time after the Job was made."""
    return EARLIER + timedelta(seconds=seconds)


def told(began: float | None = None, step: int | None = None, **more: float) -> dict[str, Any]:
    """What the pod of node rank 0 reports of its attempt."""
    metrics = dict(more)
    if began is not None:
        metrics["attemptTrainingTimestampSeconds"] = at(began).timestamp()
    if step is not None:
        metrics["step"] = step
    return metrics


def ended(index: int = 0, *, scheduled: float = 100, **metrics: float) -> PodView:
    """A pod that had its node so many seconds after the Job was made, and failed."""
    report = Report("Failed", "AcceleratorFailed", "", metrics=metrics)
    times: dict[str, Any] = {"scheduled_at": at(scheduled), "started_at": at(scheduled + 20), "finished_at": NOW}
    return failed(index, report=report, **times)


def failure(attempt: int = 1, before: Usage | None = None, **metrics: float) -> Observed:
    """Both pods of an attempt have ended, an hour after its Job was made."""
    return scene(
        TRAIN, FAILED, attempt=attempt, pods=(ended(0, **metrics), ended(1, scheduled=160)),
        child_fields={"finished_at": NOW}, status={"usage": before} if before else None, **GPUS,
    )  # fmt: skip


def usage(observed: Observed) -> Any:
    """The usage in the status after the decision."""
    return look(observed).status.usage


def test_an_attempt_holds_its_accelerators_from_its_first_pods_node_to_its_jobs_end() -> None:
    used = usage(failure())
    (attempt,) = used.attempts
    assert (attempt.stage, attempt.attempt, attempt.accelerators, attempt.seconds) == ("train", 1, 8, HOUR - 100)
    assert used.accelerator_seconds == attempt.accelerator_seconds == 8 * (HOUR - 100)


def test_time_before_the_first_step_is_told_apart() -> None:
    used = usage(failure(**told(began=400, step=50)))
    assert used.attempts[0].before_first_step_seconds == 300
    assert used.before_first_step_seconds == 8 * 300


def test_an_attempt_that_never_came_to_a_step_has_spent_all_before_it() -> None:
    used = usage(failure())
    assert used.before_first_step_seconds == used.accelerator_seconds


def test_steps_that_are_trained_again_are_lost_time() -> None:
    first = usage(failure(**told(began=400, step=50), attemptFromStep=0))
    assert first.lost_to_restarts_seconds == 0
    second = usage(failure(2, first, **told(began=1000, step=60), attemptFromStep=40))
    assert second.lost_to_restarts_seconds == 8 * (HOUR - 400) * 10 // 50
    assert [a.attempt for a in second.attempts] == [1, 2]
    assert second.accelerator_seconds == 2 * 8 * (HOUR - 100)


def test_steps_are_lost_also_when_the_next_attempt_came_to_none() -> None:
    first = usage(failure(**told(began=400, step=50), attemptFromStep=0))
    second = usage(failure(2, first))
    assert second.lost_to_restarts_seconds == 0
    third = usage(failure(3, second, **told(began=1000, step=60), attemptFromStep=40))
    assert third.lost_to_restarts_seconds == 8 * (HOUR - 400) * 10 // 50


def test_an_attempt_that_saved_last_has_lost_nothing() -> None:
    first = usage(failure(**told(began=400, step=50), attemptFromStep=0))
    second = usage(failure(2, first, **told(began=1000, step=60), attemptFromStep=50))
    assert second.lost_to_restarts_seconds == 0


def test_one_that_came_to_no_further_step_has_lost_its_training() -> None:
    first = usage(failure(**told(began=400, step=0), attemptFromStep=0))
    second = usage(failure(2, first, **told(began=1000), attemptFromStep=0))
    assert second.lost_to_restarts_seconds == 8 * (HOUR - 400)


def test_attempts_that_are_no_longer_listed_stay_in_the_totals() -> None:
    used: Any = None
    for number in range(1, 15):
        used = usage(failure(number, used, **told(began=400, step=number), attemptFromStep=number - 1))
    assert [a.attempt for a in used.attempts] == list(range(5, 15))
    assert used.accelerator_seconds == 14 * 8 * (HOUR - 100)
    assert used.before_first_step_seconds == 14 * 8 * 300


def test_a_stage_without_accelerators_uses_none() -> None:
    pods = (pod(phase="Succeeded", exit_code=0, scheduled_at=at(60), report=Report("Succeeded")),)
    used = usage(scene(PREPARE, COMPLETE, pods=pods, child_fields={"finished_at": NOW}, **GPUS))
    assert (used.attempts[0].stage, used.attempts[0].seconds, used.accelerator_seconds) == ("prepare", HOUR - 60, 0)


@pytest.mark.parametrize(
    ("merge", "accelerators"),
    [({}, 0), ({"engine": "llamafactory"}, 0), ({"engine": "llamafactory", "device": "auto"}, 1)],
)
def test_only_a_merge_on_an_accelerator_holds_one(merge: dict[str, Any], accelerators: int) -> None:
    used = usage(scene(MERGE, COMPLETE, child_fields={"finished_at": NOW}, merge=merge, **GPUS))
    assert used.attempts[0].accelerators == accelerators


def test_the_end_of_the_training_is_counted_though_the_merge_comes_next() -> None:
    metrics = told(began=400, step=50) | {"attemptPaddingShare": 0.25, "attemptModelFlopsUtilization": 0.41239}
    pods = (pod(phase="Succeeded", exit_code=0, scheduled_at=at(100), report=Report("Succeeded", metrics=metrics)),)
    used = usage(scene(TRAIN, COMPLETE, pods=pods, child_fields={"finished_at": NOW}, **GPUS))
    assert (used.attempts[0].seconds, used.attempts[0].to_step) == (HOUR - 100, 50)
    assert (used.padding_share, used.model_flops_utilization) == (0.25, 0.412)


def running(step: int, before: Usage | None = None, **figures: float) -> Observed:
    """A training that tells how far it is; nothing is known of its pods, as long as all are ready."""
    attempt = {"started_timestamp_seconds": at(120).timestamp()} | figures
    scrape = Scrape(step=step, total_steps=1000, attempt=attempt)
    status = {"usage": before} if before else None
    return scene(TRAIN, RUNNING, status=status, observed={"scrape": scrape}, **GPUS)


def test_while_it_trains_the_time_is_told_with_the_figures() -> None:
    used = usage(running(500, training_timestamp_seconds=at(400).timestamp(), from_step=20.0, padding_share=0.5))
    (attempt,) = used.attempts
    assert (attempt.seconds, attempt.before_first_step_seconds) == (HOUR - 120, 280)
    assert (attempt.from_step, attempt.to_step, used.padding_share) == (20, 500, 0.5)


def test_the_passing_of_time_alone_is_never_written() -> None:
    observed = running(500)
    first = look(observed)
    again = replace(observed, job=observed.job.replace(status=first.status))
    assert first.status.usage.accelerator_seconds
    assert decide(again, NOW + timedelta(seconds=30)).status is None


def test_an_attempt_without_a_node_has_used_nothing() -> None:
    observed = scene(TRAIN, RUNNING, pods=(pod(phase="Pending"),), child_fields={"ready": 0}, **GPUS)
    assert look(observed).status.usage is None


def test_a_job_that_vanished_with_its_pods_counts_as_it_was_last_seen() -> None:
    before = usage(running(500))
    gone = scene(TRAIN, None, status={"usage": before}, **GPUS)
    assert usage(gone) == before


def test_time_that_a_queue_held_the_job_is_no_use() -> None:
    again = {"started_at": at(3000), "finished_at": NOW}
    pods = (ended(0, scheduled=100), ended(1, scheduled=3060))  # the first was stopped by the hold
    used = usage(scene(TRAIN, FAILED, pods=pods, child_fields=again, **GPUS))
    assert used.attempts[0].seconds == HOUR - 3060


def test_what_was_used_before_a_hold_stays_in_the_totals_and_the_hold_itself_is_no_use() -> None:
    before = usage(running(500, training_timestamp_seconds=at(400).timestamp()))
    held = {"suspended": True, "active": 0, "ready": 0}
    first = look(scene(TRAIN, RUNNING, pods=(), child_fields=held, status={"usage": before}, **GPUS)).status
    assert (first.phase, first.usage.accelerator_seconds) == (Phase.SUSPENDED, before.accelerator_seconds)
    waiting = scene(
        TRAIN, RUNNING, pods=(), child_fields=held, status={"usage": first.usage, "phase": Phase.SUSPENDED}, **GPUS
    )
    assert usage_of(Run(waiting), NOW + timedelta(hours=10)) == first.usage
    pods = (pod(0, scheduled_at=NOW, started_at=NOW),)
    released = scene(TRAIN, RUNNING, pods=pods, child_fields={"started_at": NOW}, status={"usage": first.usage}, **GPUS)
    used: Any = usage_of(Run(released), NOW + timedelta(seconds=10))
    assert used.accelerator_seconds == before.accelerator_seconds + 8 * 10
    assert used.before_first_step_seconds == before.before_first_step_seconds + 8 * 10
    released = replace(released, job=released.job.replace(status=released.job.status.replace(usage=used)))
    used = usage_of(Run(released), NOW + timedelta(seconds=20))
    assert used.accelerator_seconds == before.accelerator_seconds + 8 * 20


@pytest.mark.parametrize("moment", [1e15, -1.0, 1e9])
def test_a_clock_that_is_far_off_makes_no_nonsense(moment: float) -> None:
    used = usage(failure(attemptTrainingTimestampSeconds=moment, attemptPaddingShare=7.0, attemptFromStep=-3))
    assert 0 <= used.attempts[0].before_first_step_seconds <= HOUR
    assert used.padding_share is None


def test_where_the_start_went_is_told_by_the_slowest_pod() -> None:
    startup = usage(failure()).startup
    assert (startup.schedule_seconds, startup.image_seconds) == (160, 20)


def test_the_parts_of_the_start_are_those_of_the_latest_attempt() -> None:
    first = usage(failure(**told(began=400, step=5), attemptModelSeconds=12.34, attemptImportsSeconds=30.0))
    assert (first.startup.model_seconds, first.startup.imports_seconds) == (12.3, 30.0)
    second = usage(failure(2, first, **told(began=400, step=7), attemptModelSeconds=3.0))
    assert (second.startup.model_seconds, second.startup.imports_seconds) == (3.0, None)


# What is wasted.


def events(observed: Observed) -> list[str]:
    """The messages of the events about waste."""
    return [e.message for e in look(observed).plan.events if e.reason == "AcceleratorTimeWasted"]


def test_much_padding_is_told_once_with_the_fix() -> None:
    observed = running(500, training_timestamp_seconds=at(400).timestamp(), padding_share=0.45)
    (message,) = events(observed)
    assert "45% of what the accelerators compute is padding" in message
    assert "spec.training.packing" in message
    told_before = running(600, usage(observed), training_timestamp_seconds=at(400).timestamp(), padding_share=0.46)
    assert events(told_before) == []


def test_steps_lost_to_restarts_are_told_with_the_fix() -> None:
    first = usage(failure(**told(began=200, step=50), attemptFromStep=0))
    (message,) = events(failure(2, first, **told(began=200, step=60), attemptFromStep=10))
    assert "39% of the accelerator time went into steps that restarts trained again" in message
    assert "saveSteps" in message


def test_a_slow_start_is_told_with_what_took_longest() -> None:
    (message,) = events(failure(**told(began=2000, step=50)))
    assert "54% of the accelerator time passed before the first steps: most of it to pull the image" in message


def test_little_waste_and_a_young_training_are_not_spoken_of() -> None:
    assert events(failure(**told(began=200, step=50), attemptPaddingShare=0.1)) == []
    assert events(failure(**told(began=HOUR - 300, step=50), attemptPaddingShare=0.9)) == []


def test_without_accelerators_nothing_is_wasted() -> None:
    observed = failure(**told(began=2000, step=50), attemptPaddingShare=0.9)
    cpus = replace(observed, job=scene(TRAIN, FAILED, worker={"accelerator": {"count": 0}}).job)
    assert events(cpus) == []
