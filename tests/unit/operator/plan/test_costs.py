"""What a failure costs, by what the attempts before it have left in the record."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Progress, Stage
from qwensft_operator.plan.types import LastStep, Observed, PodView, Report

from .builders import FAILED, FAILING, MERGE, PREPARE, TRAIN, Seen, child, failed, interrupted, later, look, pod, scene

KILLED = failed(0, 137, exit_reason="OOMKilled")


def at(step: int, pod: PodView) -> PodView:
    """The pod, telling how far the training was."""
    report = pod.report or Report("Failed", "OutOfMemory", "CUDA out of memory")
    return replace(pod, report=replace(report, metrics={"step": step}))


def again(seen: Seen, *pods: PodView, stage: Stage = TRAIN, attempt: int = 2, **then: Any) -> Seen:
    """The next attempt fails as well."""
    job = child(stage, FAILED, attempt=attempt, made_from=then.pop("made_from", ""))
    return look(seen.then(children=(job,), pods=pods, **then), later(minutes=attempt))


@pytest.mark.parametrize("stage", list(Stage))
def test_memory_that_was_not_enough_twice_at_the_same_place_is_not_tried_a_third_time(stage: Stage) -> None:
    first = look(scene(stage, FAILED, pods=(KILLED,)))
    assert first.stage(stage).attempt == 2
    second = again(first, KILLED, stage=stage)
    assert second.headline == ("Failed", "OutOfMemory")
    field = {PREPARE: "spec.prepare", TRAIN: "spec.worker", MERGE: "spec.merge"}[stage] + ".resources"
    assert "the second time at the same place" in second.message
    assert f"Change {field}, and then spec.runPolicy.retry" in second.message


def test_memory_that_was_not_enough_further_on_may_be_tried_again() -> None:
    first = look(scene(TRAIN, FAILED, pods=(at(40, failed()),)))
    further = again(first, at(60, failed()))
    assert (further.stage(TRAIN).attempt, further.stage(TRAIN).restarts) == (3, 2)
    third = again(further, at(60, failed()), attempt=3)
    assert third.headline == ("Failed", "OutOfMemory")
    assert "the second time at step 60" in third.message


def test_an_eviction_between_the_two_changes_nothing() -> None:
    first = look(scene(TRAIN, FAILED, pods=(at(40, failed()),)))
    evicted = again(first, interrupted(disrupted="EvictionByEvictionAPI"))
    assert again(evicted, at(40, failed()), attempt=3).status.phase == "Failed"


def test_other_resources_are_given_a_try() -> None:
    first = look(scene(TRAIN, FAILED, pods=(KILLED,), child_fields={"made_from": "small"}))
    second = again(first, KILLED, made_from="large")
    assert second.stage(TRAIN).attempt == 3
    assert again(second, KILLED, made_from="large", attempt=3).status.phase == "Failed"


def test_a_user_who_asks_for_a_retry_gets_two_tries() -> None:
    ended = again(look(scene(TRAIN, FAILED, pods=(KILLED,))), KILLED)
    retried = look(ended.then(spec={"runPolicy": {"retry": 1}}))
    assert again(retried, KILLED, attempt=3).stage(TRAIN).attempt == 4


def test_training_that_was_told_to_stop_and_gets_on_costs_no_restart() -> None:
    policy: dict[str, Any] = {"runPolicy": {"maxRestarts": 1}}
    seen = look(scene(TRAIN, FAILED, pods=(at(40, interrupted()),), **policy))
    for attempt in range(2, 6):
        seen = again(seen, at(20 + 20 * attempt, interrupted()), attempt=attempt)
        assert (seen.headline, seen.stage(TRAIN).restarts) == (("Restarting", "Interrupted"), None)
    assert seen.stage(TRAIN).consecutive_failures == 5
    assert "attempt 6 starts at" in seen.message


def test_training_that_is_told_to_stop_over_and_over_without_getting_on_uses_up_its_restarts() -> None:
    first = look(scene(TRAIN, FAILED, pods=(at(40, interrupted()),), runPolicy={"maxRestarts": 1}))
    second = again(first, at(40, interrupted()))
    assert second.stage(TRAIN).restarts == 1
    assert again(second, at(40, interrupted()), attempt=3).status.phase == "Failed"


@pytest.mark.parametrize("stage", [PREPARE, MERGE])
def test_stages_without_accelerators_may_be_told_to_stop_as_often_as_others_like(stage: Stage) -> None:
    spec: dict[str, Any] = {stage.value: {"retries": 0}}
    first = look(scene(stage, FAILED, pods=(interrupted(),), **spec))
    assert (first.stage(stage).attempt, first.stage(stage).restarts) == (2, None)


def first(pod: PodView, **observed: Any) -> Seen:
    """The first attempt to train fails; its status was written at step 40 of 500."""
    status = {"progress": Progress(step=40, total_steps=500)}
    return look(scene(TRAIN, FAILED, pods=(pod,), observed=observed, status=status))


def test_training_that_gains_less_than_the_status_shows_gets_on_all_the_same() -> None:
    seen = first(interrupted(), last_step=LastStep(41))
    for attempt in range(2, 5):
        seen = again(seen, interrupted(), attempt=attempt, last_step=LastStep(40 + attempt))
        assert (seen.headline, seen.stage(TRAIN).restarts) == (("Restarting", "Interrupted"), None)
    assert (seen.status.progress.step, seen.stage(TRAIN).stopped_step) == (40, 44)


def test_memory_that_is_not_enough_between_the_same_two_scrapes_is_not_tried_again() -> None:
    seen = again(first(KILLED, last_step=LastStep(41, apart=5)), KILLED, last_step=LastStep(46, apart=5))
    assert seen.status.phase == "Failed"
    assert "the second time at about step 46" in seen.message


def test_memory_that_is_not_enough_clearly_further_on_is_tried_again_be_it_by_less_than_a_percent() -> None:
    seen = again(first(KILLED, last_step=LastStep(41, apart=2)), KILLED, last_step=LastStep(44, apart=2))
    assert (seen.headline, seen.stage(TRAIN).attempt) == (("Restarting", "OutOfMemory"), 3)


def test_a_step_that_takes_longer_than_scrapes_are_apart_may_have_ended_after_the_last_one() -> None:
    seen = again(first(KILLED, last_step=LastStep(41, apart=0)), KILLED, last_step=LastStep(42, apart=0))
    assert seen.status.phase == "Failed"


@pytest.mark.parametrize("last", [None, LastStep(40)], ids=["an operator that has just started", "one scrape"])
@pytest.mark.parametrize(("step", "phase"), [(45, "Failed"), (46, "Restarting")])
def test_without_two_scrapes_a_percent_is_the_same_place(last: LastStep | None, step: int, phase: str) -> None:
    assert again(first(KILLED, last_step=last), KILLED, last_step=LastStep(step)).status.phase == phase


def test_the_furthest_place_is_one_that_the_status_can_hold() -> None:
    seen = first(KILLED, last_step=LastStep(2**53, apart=5))
    assert seen.stage(TRAIN).out_of_memory.step == 2**53


def deleted(**fields: Any) -> Observed:
    """A training at step 40 of which somebody deletes a pod."""
    progress = {"step": 40}
    observed = scene(TRAIN, child_fields={"ready": 1}, pods=(pod(0, deleted_at=later(minutes=5), **fields), pod(1)))
    status = type(observed.job.status).model_validate(observed.job.status.document() | {"progress": progress})
    return replace(observed, job=observed.job.replace(status=status))


def test_a_deleted_pod_is_told_and_remembered_after_it_is_gone() -> None:
    seen = look(deleted())
    assert seen.headline == ("Training", "Interrupted")
    assert seen.message == "pod pod-0 (node rank 0) was deleted; waiting for the other pods to stop"
    gone = look(seen.then(children=(child(TRAIN, FAILED, reason="BackoffLimitExceeded", message="limit"),), pods=()))
    assert (gone.headline, gone.stage(TRAIN).restarts) == (("Restarting", "Interrupted"), None)
    assert gone.message.startswith("pod pod-0 (node rank 0) was deleted; attempt 2 starts at")


def test_how_far_an_attempt_was_is_told_with_its_end_so_that_another_leader_knows() -> None:
    seen = look(replace(deleted(), last_step=LastStep(43)))
    assert seen.status.progress.step == 43
    assert look(seen.then()).plan.status is None
    gone = look(seen.then(children=(child(TRAIN, FAILED, reason="BackoffLimitExceeded"),), pods=(), last_step=None))
    assert gone.stage(TRAIN).stopped_step == 43


def test_a_report_that_was_seen_tells_more_than_the_last_scrape_also_when_its_pod_is_gone() -> None:
    observed = replace(deleted(), pods=(at(45, interrupted()), pod(1)), last_step=LastStep(43))
    seen = look(observed)
    assert seen.status.progress.step == 45
    gone = look(seen.then(children=(child(TRAIN, FAILED, reason="BackoffLimitExceeded"),), pods=()))
    assert gone.stage(TRAIN).stopped_step == 45


def test_an_attempt_that_fell_back_to_a_checkpoint_is_where_it_was_scraped() -> None:
    seen = first(interrupted(), last_step=LastStep(30))
    assert seen.stage(TRAIN).stopped_step == 30


def test_a_pod_that_is_deleted_by_force_saves_nothing_and_costs_a_restart() -> None:
    seen = look(deleted(without_grace=True))
    assert seen.headline == ("Training", "KilledBeforeSaved")
    gone = look(seen.then(children=(child(TRAIN, FAILED, reason="BackoffLimitExceeded"),), pods=()))
    assert (gone.headline, gone.stage(TRAIN).restarts) == (("Restarting", "KilledBeforeSaved"), 1)


def test_a_pod_that_is_evicted_is_told_so_while_it_stops() -> None:
    seen = look(deleted(disrupted="EvictionByEvictionAPI", disrupted_at=later()))
    assert seen.headline == ("Training", "Preempted")


def test_what_the_last_attempt_left_is_no_cause_of_this_one() -> None:
    first = look(scene(TRAIN, FAILED, pods=(failed(reason="DiskFull"),)))
    assert again(first).headline == ("Restarting", "TrainingFailed")


def test_pods_that_kubernetes_deletes_with_a_failing_job_are_no_cause() -> None:
    seen = look(scene(TRAIN, FAILING, pods=(pod(0, deleted_at=later(minutes=5)), failed(1, reason="DiskFull"))))
    assert seen.headline == ("Training", "DiskFull")


def test_a_pod_that_is_deleted_before_it_runs_interrupts_nothing_that_could_count() -> None:
    waiting = pod(phase="Pending", deleted_at=later(minutes=1), unschedulable="0/3 nodes")
    seen = look(scene(PREPARE, child_fields={"ready": 0}, pods=(waiting,)))
    assert (seen.headline[1], seen.stage(PREPARE).restarts) == ("Interrupted", None)


def test_rejections_are_slowed_down_and_never_the_end() -> None:
    rejected = pod(phase="Failed", rejected="OutOfcpu: not enough")
    seen = look(scene(PREPARE, FAILED, pods=(rejected,), prepare={"retries": 0}))
    for attempt in range(2, 6):
        seen = again(seen, rejected, stage=PREPARE, attempt=attempt)
    assert (seen.headline, seen.stage(PREPARE).restarts) == (("Preparing", "PodRejected"), None)
    assert seen.plan.requeue_after == 160


def test_a_gang_that_was_to_start_from_different_places_may_try_again_once_for_nothing() -> None:
    differ = failed(reason="StartMismatch", message="step 40 and 60")
    first = look(scene(TRAIN, FAILED, pods=(differ,), runPolicy={"maxRestarts": 1}))
    assert (first.stage(TRAIN).attempt, first.stage(TRAIN).restarts) == (2, None)
    second = again(first, differ)
    assert (second.stage(TRAIN).attempt, second.stage(TRAIN).restarts) == (3, 1)
    assert again(second, differ, attempt=3).headline == ("Failed", "StartMismatch")
