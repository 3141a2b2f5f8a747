"""Training figures: clamped, rounded, resumed, and never anything that JSON cannot hold."""

import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Progress
from qwensft_operator.plan.progress import duration, final, live, paused, summary
from qwensft_operator.plan.types import Scrape

from .builders import NOW, later


def scraped(known: Progress | None = None, now: datetime = NOW, **figures: Any) -> Progress:
    """The progress after a scrape that tells a step."""
    progress = live(known, Scrape(**figures), now, interval=timedelta())
    assert progress is not None
    return progress


KNOWN = scraped(step=480, total_steps=500, loss=0.71, estimated_remaining_seconds=60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (45, "45s"),
        (60, "1m"),
        (200, "3m20s"),
        (3600, "1h"),
        (3605, "1h"),
        (8100, "2h15m"),
        (100_800, "1d4h"),
    ],
)
def test_a_duration_reads_by_its_two_largest_units(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_steps_percentage_and_eta_follow_the_scrape() -> None:
    seen = scraped(step=120, total_steps=500, estimated_remaining_seconds=8100)
    assert (seen.steps, seen.percentage, seen.eta, seen.last_update_time) == ("120/500", 24, "2h15m", NOW)


def test_a_step_too_many_is_not_shown() -> None:
    seen = scraped(step=501, total_steps=500)
    assert (seen.step, seen.steps, seen.percentage) == (500, "500/500", 100)


def test_a_resumed_training_falls_back_to_its_checkpoint() -> None:
    seen = scraped(KNOWN, later(minutes=9), step=400, total_steps=500)
    assert (seen.steps, seen.percentage, seen.loss) == ("400/500", 80, 0.71)


def test_an_old_eta_does_not_outlive_its_scrape() -> None:
    assert KNOWN.eta == "1m"
    seen = scraped(KNOWN, NOW, step=400, total_steps=500)
    assert (seen.eta, seen.estimated_remaining_seconds) == (None, None)


def test_a_scrape_without_a_step_changes_nothing() -> None:
    assert live(KNOWN, Scrape(loss=1.0), later(hours=1), interval=timedelta()) == KNOWN
    assert live(None, Scrape(), NOW, interval=timedelta()) is None


@pytest.mark.parametrize(
    ("seconds", "step", "moves"),
    [
        (60, 485, True),
        (59, 500, False),
        (3600, 484, False),
        (60, 400, True),
    ],
    ids=["a minute and a percent", "less than a minute", "less than a percent", "back to a checkpoint"],
)
def test_a_status_moves_by_a_percent_and_not_before_the_interval_is_over(
    seconds: int, step: int, *, moves: bool
) -> None:
    scrape = Scrape(step=step, total_steps=500, loss=0.5)
    seen = live(KNOWN, scrape, later(seconds=seconds), interval=timedelta(seconds=60))
    assert seen is not None
    assert (seen.step, seen.loss) == ((step, 0.5) if moves else (480, 0.71))


def test_the_same_figures_keep_their_time() -> None:
    again = scraped(KNOWN, later(hours=1), step=480, total_steps=500, loss=0.71, estimated_remaining_seconds=60)
    assert again == KNOWN


def test_an_unknown_total_gives_no_percentage() -> None:
    seen = scraped(step=7)
    assert (seen.step, seen.steps, seen.percentage) == (7, None, None)
    assert scraped(step=7, total_steps=0).percentage is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_left_out(number: float) -> None:
    seen = scraped(KNOWN, NOW, step=481, total_steps=500, loss=number, learning_rate=number)
    assert (seen.step, seen.loss, seen.learning_rate) == (481, 0.71, None)


def test_a_negative_count_is_left_out() -> None:
    seen = scraped(step=1, total_steps=500, estimated_remaining_seconds=-5)
    assert (seen.estimated_remaining_seconds, seen.eta) == (None, None)


def test_a_loss_is_rounded_and_a_learning_rate_is_not() -> None:
    seen = scraped(step=1, loss=1.23456789, learning_rate=4.987654321e-06)
    assert (seen.loss, seen.learning_rate) == (1.2346, 4.987654321e-06)


def test_the_final_report_wins_and_ends_the_eta() -> None:
    seen = final(KNOWN, {"step": 500, "totalSteps": 500, "loss": 0.5}, NOW)
    assert (seen.steps, seen.percentage, seen.loss, seen.eta) == ("500/500", 100, 0.5, None)


def test_without_a_report_a_complete_training_is_at_its_end() -> None:
    seen = final(KNOWN, {}, NOW)
    assert (seen.steps, seen.percentage, seen.loss) == ("500/500", 100, 0.71)


def test_a_training_that_was_never_scraped_still_ends() -> None:
    assert final(None, {}, NOW) == Progress(last_update_time=NOW)
    assert final(None, {"step": 20, "totalSteps": 20}, NOW).percentage == 100


def test_a_paused_training_has_no_pace() -> None:
    assert paused(None) is None
    resting = paused(KNOWN)
    assert resting is not None
    assert (resting.steps, resting.eta) == ("480/500", None)


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({}, "all steps"),
        ({"step": 500}, "500 steps"),
        ({"step": 500, "loss": 0.5}, "500 steps, loss 0.5"),
        ({"step": 500, "loss": 0.5, "initial_loss": 2.25}, "500 steps, loss 2.25 -> 0.5"),
    ],
)
def test_the_summary_tells_steps_and_loss(figures: dict[str, float], text: str) -> None:
    assert summary(Progress(**figures)) == text


@pytest.mark.parametrize(
    "absurd",
    [
        {"steps": 7.0, "eta": 3.0, "percentage": 250.0, "lastUpdateTime": 1.0},
        {"step": -1.0, "totalSteps": -5.0, "estimatedRemainingSeconds": -0.5},
        {"step": 1e300, "totalSteps": math.inf, "loss": math.nan},
    ],
)
def test_figures_that_the_status_does_not_have_or_cannot_hold_change_none(absurd: dict[str, float]) -> None:
    seen = final(KNOWN, absurd, NOW)
    assert (seen.steps, seen.percentage, seen.eta, seen.loss) == ("500/500", 100, None, 0.71)
    assert Progress.model_validate(seen.document()) == seen
