"""The chain of policies: their order, and the words they use."""

import ast
from pathlib import Path
from typing import Any

import pytest

from qwensft.api.v1alpha1 import ConditionType, Reason, Stage
from qwensft_operator.plan import causes, decide
from qwensft_operator.plan.policies import POLICIES
from qwensft_operator.plan.run import DONE_CONDITION
from qwensft_operator.plan.types import ClaimView, JobState, Limits, Observed, Obstacle

from .builders import COMPLETE, FAILED, MERGE, NOW, PREPARE, TRAIN, failed, look, scene

OBSTACLE: dict[str, Any] = {"obstacle": Obstacle(Reason.FORBIDDEN, "no")}
GONE = (ClaimView("support-workspace", "Lost"),)
NARROW: dict[str, Any] = {"limits": Limits(images=("trainer:1",))}
STRANGE: dict[str, Any] = {"worker": {"image": "evil:1"}}
SECOND: dict[str, Any] = {"model": {"name": "Qwen/Qwen3-8B", "source": {"run": {"name": "first"}}}}
SHORT: dict[str, Any] = {"runPolicy": {"activeDeadlineSeconds": 60}}  # scenes began an hour ago


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (scene(TRAIN, FAILED, observed=OBSTACLE), "Forbidden"),
        (scene(MERGE, COMPLETE, suspend=True), "Completed"),
        (scene(TRAIN, FAILED, suspend=True, pods=(failed(reason="DiskFull"),)), "DiskFull"),
        (scene(TRAIN, suspend=True, **SHORT), "Suspending"),
        (scene(TRAIN, child_fields={"suspended": True}, **SHORT), "Queued"),
        (scene(TRAIN, child_fields={"suspended": True, "succeeded": 1, "ready": 0}), "Interrupted"),
        (scene(TRAIN, None, recorded=False, suspend=True, observed=NARROW, **STRANGE), "Suspended"),
        (scene(TRAIN, None, observed=NARROW, **STRANGE, **SHORT), "NotAllowed"),
        (scene(PREPARE, None, recorded=False, observed=NARROW, **STRANGE, **SECOND), "NotAllowed"),
        (scene(PREPARE, None, recorded=False, observed={"claims": GONE}, **SECOND, **SHORT), "WaitingForSourceRun"),
        (scene(TRAIN, None, **SHORT), "DeadlineExceeded"),
        (scene(TRAIN, None, recorded=False, observed={"claims": GONE}, **SHORT), "DeadlineExceeded"),
        (scene(TRAIN, None, observed={"claims": GONE}), "StorageUnavailable"),
        (scene(TRAIN, None), "JobDeleted"),
        (scene(TRAIN, child_fields={"deleting": True, "ready": 0}), "JobDeleted"),
    ],
    ids=[
        "a refusal before anything else",
        "the end before a suspension",
        "a failure before a suspension",
        "a suspension before the deadline",
        "a queue before the deadline",
        "half a gang before a queue",
        "a suspension before what is not allowed",
        "what is not allowed before the deadline",
        "what is not allowed before the wait for another run",
        "the wait for another run before the deadline and bad storage",
        "the deadline before a lost Job",
        "the deadline before bad storage",
        "bad storage before a lost Job",
        "a lost Job before the start of its attempt",
        "a deleted Job before starting pods",
    ],
)
def test_the_first_policy_that_applies_decides(observed: Observed, reason: str) -> None:
    assert look(observed).headline[1] == reason


def test_the_latch_stands_before_everything_but_the_two_ways_out_of_it() -> None:
    first = [policy.__name__ for policy in POLICIES[:4]]
    assert first == ["obstructed", "merge_again", "retry_requested", "finished"]


@pytest.mark.parametrize("path", sorted(Path(causes.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_every_reason_in_the_code_is_a_member_of_the_api(path: Path) -> None:
    """A reason is never spelt as text: mypy then knows that it is one of the API's."""
    source = path.read_text(encoding="utf-8")
    texts = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    kubernetes_own = {"DeadlineExceeded", "NodeLost", "Unschedulable", *JobState}
    assert not texts & {str(r) for r in Reason} - kubernetes_own


def test_every_event_of_a_finished_stage_has_a_reason() -> None:
    assert {Reason(DONE_CONDITION[stage]) for stage in Stage} == {Reason.PREPARED, Reason.TRAINED, Reason.MERGED}
    assert set(DONE_CONDITION.values()) <= set(ConditionType)


def test_no_two_passes_in_a_row_ask_for_another_at_once_without_progress() -> None:
    for observed in (scene(TRAIN, COMPLETE), scene(TRAIN, suspend=True), scene(MERGE, **SHORT)):
        seen = look(observed)
        assert seen.plan.requeue_after == 0
        assert look(seen.then()).plan.requeue_after != 0 or look(seen.then()).plan.status is not None


def test_the_same_observation_gives_the_same_plan() -> None:
    for stage in Stage:
        observed = scene(stage, FAILED)
        assert decide(observed, NOW) == decide(observed, NOW)
    assert look(scene(PREPARE)).plan == look(scene(PREPARE)).plan
