"""Where a training was reported to is told by its pod, kept over attempts, and costs no write of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from qwensft.api.v1alpha1 import TrackerStatus, read_status
from qwensft_operator.plan import decide
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.trackers import trackers_of
from qwensft_operator.plan.types import Observed, Report, Scrape, Told

from .builders import FAILED, NOW, PREPARE, RUNNING, TRAIN, failed, scene

MLFLOW = Told("mlflow", "http://mlflow:5000/#/experiments/1/runs/7", "7")
KNOWN = TrackerStatus(name="mlflow", url=MLFLOW.url, run_id="7")


def training(*told: Told, known: tuple[TrackerStatus, ...] = ()) -> Observed:
    """A training whose pod tells this of its trackers."""
    scrape = Scrape(step=5, total_steps=100, trackers=told)
    return scene(TRAIN, RUNNING, observed={"scrape": scrape}, status={"trackers": known})


def test_what_the_pod_tells_is_shown() -> None:
    told = (Told("tensorboard", "/run/tensorboard", "run"), MLFLOW, Told("wandb", undelivered=12))
    assert [t.document() for t in trackers_of(Run(training(*told))) or ()] == [
        {"name": "tensorboard", "url": "/run/tensorboard", "runId": "run"},
        {"name": "mlflow", "url": MLFLOW.url, "runId": "7"},
        {"name": "wandb", "undelivered": 12},
    ]


def test_the_next_attempt_does_not_forget_the_address_before_it_knows_it() -> None:
    (tracker,) = trackers_of(Run(training(Told("mlflow", undelivered=3), known=(KNOWN,)))) or ()
    assert tracker == KNOWN.replace(undelivered=3)


def test_what_has_arrived_since_is_no_longer_counted() -> None:
    (tracker,) = trackers_of(Run(training(MLFLOW, known=(KNOWN.replace(undelivered=3),)))) or ()
    assert tracker == KNOWN


def test_an_attempt_that_has_ended_tells_in_its_report() -> None:
    pods = (failed(0, report=Report("Failed", "TrainingFailed", "", trackers=(MLFLOW,))),)
    assert trackers_of(Run(scene(TRAIN, FAILED, pods=pods))) == (KNOWN,)


def test_another_stage_leaves_it_as_it_is() -> None:
    assert trackers_of(Run(scene(PREPARE, RUNNING, status={"trackers": (KNOWN,)}))) == (KNOWN,)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "http://mlflow/ with spaces", "http://mlflow/\x1b[2J", "", "ftp://x/y", "x" * 5000]
)
def test_an_address_that_is_none_is_not_shown(url: str) -> None:
    (tracker,) = trackers_of(Run(training(Told("mlflow", url, "no id!")))) or ()
    assert tracker.document() == {"name": "mlflow"}


@pytest.mark.parametrize("name", ["", "MLflow", "a" * 33, "x y"])
def test_a_name_that_is_none_is_left_out(name: str) -> None:
    assert trackers_of(Run(training(Told(name, MLFLOW.url)))) is None


def test_it_is_written_with_what_is_written_anyway_and_not_for_itself() -> None:
    first = decide(training(MLFLOW), NOW)
    assert first.status is not None
    assert first.status["trackers"] == [KNOWN.document()]
    seen = training(Told("mlflow", MLFLOW.url, "7", undelivered=3))
    again = replace(seen, job=seen.job.replace(status=read_status(first.status)), progress_interval=timedelta(hours=1))
    assert decide(again, NOW).status is None
