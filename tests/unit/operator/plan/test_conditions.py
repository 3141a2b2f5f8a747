"""Conditions, phase and events: what tools read, what people see, and when nothing is written at all."""

from dataclasses import replace

import pytest

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan.types import ClaimView, Observed, Obstacle, Scrape

from .builders import (
    COMPLETE,
    FAILED,
    FAILING,
    MERGE,
    NOW,
    PREPARE,
    TRAIN,
    child,
    failed,
    job,
    later,
    look,
    new_run,
    pod,
    scene,
)

UNDER_WAY = {
    "new": new_run(),
    "held": new_run(runPolicy={"suspend": True}),
    "preparing": scene(PREPARE),
    "starting": scene(TRAIN, child_fields={"ready": 0}),
    "training": scene(TRAIN),
    "failing": scene(TRAIN, FAILING),
    "restarting": scene(TRAIN, FAILED),
    "suspending": scene(TRAIN, suspend=True),
    "refused": scene(TRAIN, None, recorded=False, observed={"obstacle": Obstacle(Reason.QUOTA_EXCEEDED, "full")}),
    "without storage": scene(
        TRAIN, None, recorded=False, observed={"claims": (ClaimView("support-workspace", "Lost"),)}
    ),
    "merging": scene(MERGE),
}


@pytest.mark.parametrize("observed", UNDER_WAY.values(), ids=UNDER_WAY)
def test_a_run_under_way_is_reconciling_and_nothing_else(observed: Observed) -> None:
    seen = look(observed)
    values = [seen.condition(c).status for c in ("Succeeded", "Reconciling", "Stalled")]
    assert values == ["Unknown", "True", "False"]


def test_a_failed_run_is_stalled_and_nothing_else() -> None:
    seen = look(scene(TRAIN, FAILED, pods=(failed(code=78),)))
    assert [seen.condition(c).status for c in ("Succeeded", "Reconciling", "Stalled")] == ["False", "False", "True"]


def test_a_successful_run_is_neither() -> None:
    seen = look(scene(MERGE, COMPLETE))
    assert [seen.condition(c).status for c in ("Succeeded", "Reconciling", "Stalled")] == ["True", "False", "False"]


def test_only_a_suspended_run_says_so() -> None:
    assert look(UNDER_WAY["held"]).condition("Suspended").status == "True"
    seen = look(UNDER_WAY["training"]).condition("Suspended")
    assert (seen.status, seen.reason) == ("False", "NotSuspended")


def test_each_stage_tells_how_far_it_is() -> None:
    seen = look(scene(TRAIN))
    told = {
        name: (seen.condition(name).status, seen.condition(name).reason) for name in ("Prepared", "Trained", "Merged")
    }
    assert told == {
        "Prepared": ("True", "Completed"),
        "Trained": ("False", "Running"),
        "Merged": ("Unknown", "Waiting"),
    }


def test_a_run_that_failed_in_training_never_began_to_merge() -> None:
    seen = look(scene(TRAIN, FAILED, pods=(failed(code=78, reason="InvalidModel", message="no config.json"),)))
    assert (seen.condition("Trained").status, seen.condition("Trained").reason) == ("False", "InvalidModel")
    assert seen.condition("Merged").status == "Unknown"


def test_a_transition_time_changes_with_the_status_alone() -> None:
    first = look(scene(TRAIN, child_fields={"ready": 0}))
    second = look(first.then(children=(child(TRAIN),)), later(minutes=1))
    assert second.condition("Succeeded").reason != first.condition("Succeeded").reason
    assert second.condition("Succeeded").last_transition_time == NOW


def test_the_generation_that_was_looked_at_is_recorded_everywhere() -> None:
    seen = look(look(scene(TRAIN)).then(spec={"runPolicy": {"maxRestarts": 7}}))
    assert {c.observed_generation for c in seen.status.conditions} | {seen.status.observed_generation} == {2}


@pytest.mark.parametrize(
    "name", ["held", "preparing", "starting", "training", "failing", "refused", "without storage", "merging"]
)
def test_what_was_written_is_not_written_again(name: str) -> None:
    rest = look(look(UNDER_WAY[name]).then(), later(hours=1))
    assert rest.plan.status is None
    assert rest.plan.events == ()


def test_the_same_figures_are_not_written_again() -> None:
    scrape = Scrape(step=3, total_steps=9, loss=1.0, estimated_remaining_seconds=60, tokens_per_second=5.0)
    seen = look(scene(TRAIN, observed={"scrape": scrape}))
    assert look(seen.then(), later(minutes=1)).plan.status is None


def test_an_event_tells_of_each_transition_once() -> None:
    seen = look(scene(TRAIN))
    assert seen.events == [("Normal", "Running")]
    assert look(seen.then()).events == []


def test_new_words_for_the_same_state_are_no_event() -> None:
    first = look(scene(TRAIN, child_fields={"ready": 0}))
    second = look(first.then(children=(child(TRAIN, ready=1),)))
    assert second.message != first.message
    assert second.events == []


def test_a_finished_stage_is_an_event_of_its_own() -> None:
    assert look(scene(PREPARE, COMPLETE)).events == [("Normal", "Prepared"), ("Normal", "PodsStarting")]
    assert look(scene(MERGE, COMPLETE)).events == [("Normal", "Merged"), ("Normal", "Completed")]


def test_what_goes_wrong_is_a_warning() -> None:
    assert look(scene(TRAIN, FAILED)).events == [("Warning", "TrainingFailed")]
    stuck = scene(TRAIN, child_fields={"ready": 0}, pods=(pod(unschedulable="no node fits"),))
    assert look(stuck).events == [("Warning", "Unschedulable")]


def test_what_another_version_has_more_of_is_no_fault_of_the_spec() -> None:
    newer = job({"phase": "Archiving", "conditions": None, "stages": {"train": None}, "elsewhere": {"a": 1}})
    assert look(replace(new_run(), job=newer)).headline == ("Preparing", "PodsStarting")


def test_a_condition_of_somebody_else_is_none_of_the_operators_business() -> None:
    seen = look(scene(TRAIN))
    foreign = seen.status.conditions[0].replace(type="Approved")
    status = seen.status.replace(conditions=(*seen.status.conditions, foreign))
    observed = replace(seen.observed, job=seen.observed.job.replace(status=status))
    assert look(observed).plan.status is None
    told = look(replace(observed, children=(child(TRAIN, ready=0),)))
    assert [c.type for c in told.status.conditions] == [c.type for c in seen.status.conditions]


def test_conditions_are_told_in_the_order_in_which_they_are_stored() -> None:
    seen = look(scene(TRAIN))
    status = seen.status.replace(conditions=tuple(sorted(seen.status.conditions[:5], key=lambda c: c.type)))
    told = look(replace(seen.observed, job=seen.observed.job.replace(status=status)))
    assert [c.type for c in told.status.conditions] == [
        *("Prepared", "Reconciling", "Stalled", "Succeeded", "Suspended"),
        *("Trained", "Merged"),
    ]


def test_no_condition_moves_a_terminal() -> None:
    """Whatever a policy has made its sentence of."""
    strange = child(TRAIN, held_by=("a\x1b[2J.example/x",), deleting=True)
    seen = look(replace(scene(TRAIN), children=(strange,)))
    assert "\\x1b[2J" in seen.message
    assert not any("\x1b" in condition.message for condition in seen.status.conditions)
