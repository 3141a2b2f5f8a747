"""What is said of a run that cannot be decided about, and how little of its document that needs."""

from typing import Any

import pytest

from qwensft_operator.plan import Plan, invalid_spec, operator_error

from .builders import NOW

EARLIER = "2026-01-01T00:00:00Z"


def manifest(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": {"colour": "red"}, **({"status": status} if status else {})}


def conditions(plan: Plan) -> dict[str, dict[str, Any]]:
    assert plan.status is not None
    return {condition["type"]: condition for condition in plan.status["conditions"]}


def values(plan: Plan) -> dict[str, tuple[str, str]]:
    return {type_: (condition["status"], condition["reason"]) for type_, condition in conditions(plan).items()}


def condition(type_: str, value: str, reason: str = "Running") -> dict[str, str]:
    return {"type": type_, "status": value, "reason": reason, "message": "", "lastTransitionTime": EARLIER}


def test_a_spec_from_another_version_stalls_the_run_and_keeps_what_was_known() -> None:
    known = [condition("Trained", "False"), condition("Stalled", "True"), condition("Reconciling", "True")]
    plan = invalid_spec(manifest(phase="Training", conditions=known), "spec.model.colour: unknown field", NOW)
    assert plan.status is not None
    assert (plan.status["phase"], plan.status["observedGeneration"]) == ("Pending", 3)
    assert values(plan) == {
        "Trained": ("False", "Running"),
        "Stalled": ("True", "InvalidSpec"),
        "Reconciling": ("False", "InvalidSpec"),
        "Succeeded": ("Unknown", "InvalidSpec"),
    }
    stalled, reconciling = conditions(plan)["Stalled"], conditions(plan)["Reconciling"]
    assert "spec.model.colour" in stalled["message"]
    assert (stalled["lastTransitionTime"], reconciling["lastTransitionTime"]) == (EARLIER, "2026-01-02T12:00:00Z")
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", "InvalidSpec")]


@pytest.mark.parametrize(
    ("before", "told"), [("Training", "Pending"), ("Restarting", "Pending"), ("Suspended", "Suspended")]
)
def test_a_run_that_is_not_understood_shows_no_phase_of_a_run_that_goes_on(before: str, told: str) -> None:
    plan = invalid_spec(manifest(phase=before), "spec.model.colour: unknown field", NOW)
    assert plan.status is not None
    assert plan.status["phase"] == told


def test_an_error_of_the_operator_is_told_and_the_run_is_not_given_up() -> None:
    plan = operator_error(manifest(), RuntimeError("no\nsuch thing"), NOW)
    assert plan.status is not None
    assert plan.status["phase"] == "Pending"
    assert values(plan) == {
        "Succeeded": ("Unknown", "OperatorError"),
        "Reconciling": ("True", "OperatorError"),
        "Stalled": ("False", "OperatorError"),
    }
    assert conditions(plan)["Reconciling"]["message"].endswith(": RuntimeError: no such thing")
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", "OperatorError")]


def test_an_error_of_the_operator_keeps_the_phase() -> None:
    plan = operator_error(manifest(phase="Training"), RuntimeError("no"), NOW)
    assert plan.status is not None
    assert plan.status["phase"] == "Training"


def test_an_error_is_told_once_until_a_pass_succeeds_or_the_spec_changes() -> None:
    first = operator_error(manifest(phase="Training"), RuntimeError("one"), NOW)
    assert first.status is not None
    said = manifest(**first.status)
    assert operator_error(said, ValueError("two"), NOW) == Plan()
    said["metadata"]["generation"] = 4
    assert "two" in conditions(operator_error(said, ValueError("two"), NOW))["Reconciling"]["message"]


@pytest.mark.parametrize("null", ["status", "conditions"])
def test_a_status_of_nulls_is_an_empty_one(null: str) -> None:
    empty = manifest() | ({"status": None} if null == "status" else {"status": {"conditions": None}})
    assert len(conditions(operator_error(empty, RuntimeError(), NOW))) == 3


def test_what_was_said_already_is_not_said_again() -> None:
    first = invalid_spec(manifest(), "spec.model: missing", NOW)
    assert first.status is not None
    assert invalid_spec(manifest(**first.status), "spec.model: missing", NOW) == Plan()


def test_an_end_stays_as_it_was() -> None:
    ended = manifest(phase="Succeeded", completionTime=EARLIER)
    assert (invalid_spec(ended, "no", NOW), operator_error(ended, RuntimeError(), NOW)) == (Plan(), Plan())


def test_countless_mistakes_fit_into_a_condition() -> None:
    many = "spec.model.colour: unknown field \ud83d; " * 2000
    for plan in (invalid_spec(manifest(), many, NOW), operator_error(manifest(), ValueError(many), NOW)):
        assert max(len(said["message"].encode()) for said in conditions(plan).values()) < 32768
