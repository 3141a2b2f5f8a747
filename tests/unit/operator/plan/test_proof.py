"""A Job that Kubernetes calls complete has done its stage's work, unless what is left of its pods denies that."""

from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import PodView, Report

from .builders import COMPLETE, MERGE, PREPARE, TRAIN, Seen, look, pod, scene

GENERIC = {PREPARE: "PreparationFailed", TRAIN: "TrainingFailed", MERGE: "MergeFailed"}
NO_MORE: dict[str, Any] = {"runPolicy": {"maxRestarts": 0}, "prepare": {"retries": 0}, "merge": {"retries": 0}}


def ended(index: int = 0, report: Report | None = None, code: int = 0) -> PodView:
    return pod(index, phase="Succeeded", exit_code=code, report=report)


def complete(stage: Stage, *pods: PodView, **spec: Any) -> Seen:
    return look(scene(stage, COMPLETE, pods=pods, **spec))


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize(
    ("report", "words"),
    [
        (None, "has left no report"),
        (Report("Interrupted", "Interrupted", "saved step 40"), "its report says Interrupted"),
        (Report("Failed", "KilledBeforeSaved"), "its report says Failed"),
    ],
)
def test_exit_code_0_without_a_report_of_success_is_a_failure(stage: Stage, report: Report | None, words: str) -> None:
    seen = complete(stage, ended(report=report))
    assert (seen.headline[1], seen.stage(stage).attempt, seen.stage(stage).restarts) == (GENERIC[stage], 2, 1)
    assert words in seen.message
    assert "spec.worker.image" in seen.message
    assert seen.condition({PREPARE: "Prepared", TRAIN: "Trained", MERGE: "Merged"}[stage]).status == "False"


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize(
    "pods",
    [
        (),
        (ended(report=Report("Succeeded")),),
        (ended(report=Report("Cached")),),
        (ended(0, Report("Succeeded")), ended(1)),
        (ended(0), ended(1, Report("Succeeded"))),
    ],
    ids=["no pods", "a success", "a newer image's", "of one", "of another"],
)
def test_what_does_not_deny_it_is_a_success(stage: Stage, pods: tuple[PodView, ...]) -> None:
    assert complete(stage, *pods).stage(stage).completion_time is not None


@pytest.mark.parametrize("stage", list(Stage))
def test_a_retry_of_what_only_kubernetes_calls_complete_takes_the_next_number(stage: Stage) -> None:
    failed = complete(stage, ended(), **NO_MORE)
    assert failed.headline == ("Failed", GENERIC[stage])
    again = look(failed.then(spec={"runPolicy": {"retry": 1}}))
    assert (again.headline[1], again.stage(stage).attempt) == ("RetryRequested", 2)
