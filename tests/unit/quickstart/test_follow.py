"""What a person sees while a job runs."""

from typing import Any

import pytest
from quickstart import follow
from quickstart.steps import clock, size


def job(generation: int = 1, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "b", "generation": generation}, "status": status}


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Because", "message": message}


def test_a_new_job_has_not_ended() -> None:
    assert not follow.ended(job(observedGeneration=-1))


@pytest.mark.parametrize(("status", "ended"), [("True", True), ("False", True), ("Unknown", False)])
def test_a_job_has_ended_when_it_has_succeeded_or_failed(status: str, ended: bool) -> None:
    assert follow.ended(job(observedGeneration=1, conditions=[condition("Succeeded", status)])) is ended


def test_a_verdict_on_an_older_generation_does_not_count() -> None:
    assert not follow.ended(job(2, observedGeneration=1, conditions=[condition("Succeeded", "True")]))


def test_training_shows_steps_loss_and_time_left() -> None:
    progress = {
        "step": 50, "totalSteps": 200, "percentage": 25, "steps": "50/200",
        "loss": 4.5, "initialLoss": 17.2, "eta": "45s",
    }  # fmt: skip
    shown = follow.describe(job(phase="Training", progress=progress))
    assert shown == "Training    █████░░░░░░░░░░░░░░░  25 %  step 50/200  loss 4.50 (first 17.20)  ETA 45s"


def test_other_phases_show_what_is_being_done() -> None:
    headline = condition("Succeeded", "Unknown", "Job a-prepare-1 runs") | {"reason": "Running"}
    shown = follow.describe(job(phase="Preparing", conditions=[headline]))
    assert shown == "Preparing   checking and tokenising the rows"


def test_trouble_shows_what_the_operator_says() -> None:
    headline = condition("Succeeded", "Unknown", "pod a-prepare-1-x cannot be scheduled") | {"reason": "Unschedulable"}
    shown = follow.describe(job(phase="Preparing", conditions=[headline]))
    assert shown == "Preparing   pod a-prepare-1-x cannot be scheduled"


def test_a_job_that_nobody_has_looked_at_is_pending() -> None:
    assert follow.describe({"metadata": {}}) == "Pending"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.4, "59s"), (161, "2m41s"), (3725, "1h02m")])
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(682, "682 B"), (9_915, "9.9 kB"), (38_000_000, "38.0 MB"), (8_200_000_000, "8.2 GB")]
)
def test_sizes_read_like_speech(count: float, text: str) -> None:
    assert size(count) == text
