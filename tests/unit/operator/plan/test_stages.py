"""From stage to stage: what is started when, what is waited for, and what is taken over from a finished stage."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Progress, Reason, Stage
from qwensft_operator.plan.types import ClaimView, EnsureService, Obstacle, Report, Scrape

from .builders import (
    COMPLETE,
    FAILED,
    MERGE,
    NOW,
    PREPARE,
    RUNNING,
    TRAIN,
    child,
    failed,
    later,
    look,
    new_run,
    pod,
    scene,
)


def test_a_new_run_begins_with_its_claim_and_prepare() -> None:
    seen = look(new_run())
    assert seen.actions == ["EnsureClaim", "EnsureConfigMap prepare-1", "CreateJob prepare-1"]
    assert seen.headline == ("Preparing", "PodsStarting")
    assert seen.stage(PREPARE).job_name == "support-prepare-1"
    assert seen.status.start_time == NOW


def test_a_named_claim_is_never_created() -> None:
    seen = look(new_run(storage={"volume": {"claimName": "models"}}))
    assert seen.actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


def test_training_starts_in_the_pass_that_sees_prepare_complete() -> None:
    seen = look(scene(PREPARE, COMPLETE, observed={"service_exists": False}))
    assert seen.actions == ["EnsureService", "EnsureConfigMap train-1", "CreateJob train-1"]
    assert seen.condition("Prepared").status == "True"
    assert seen.headline == ("Training", "PodsStarting")


def test_a_job_of_the_next_stage_that_nobody_has_told_of_is_judged_when_its_pods_are_seen() -> None:
    prepared = pod(report=Report("Succeeded", metrics={"samples": 200}))
    both = (child(PREPARE, COMPLETE), child(TRAIN, FAILED))
    seen = look(replace(scene(PREPARE, COMPLETE, pods=(prepared,)), children=both))
    assert (seen.actions, seen.headline, seen.plan.requeue_after) == ([], ("Training", "PodsStarting"), 0)
    assert (seen.stage(TRAIN).job_name, seen.stage(TRAIN).restarts) == ("support-train-1", None)
    evicted = look(seen.then(pods=(failed(code=137, disrupted="EvictionByEvictionAPI"),)))
    assert (evicted.headline[1], evicted.stage(TRAIN).restarts) == ("Preempted", None)


def test_the_time_of_completion_is_what_says_that_a_stage_is_done() -> None:
    observed = scene(TRAIN)
    kept = look(replace(observed, job=observed.job.replace(status=observed.job.status.replace(conditions=()))))
    assert (kept.headline, kept.actions) == (("Training", "Running"), [])
    assert (kept.condition("Prepared").status, kept.condition("Prepared").reason) == ("True", "Completed")
    stages = observed.job.status.stages.replace(prepare=None)
    lost = look(replace(observed, job=observed.job.replace(status=observed.job.status.replace(stages=stages))))
    assert lost.condition("Prepared").status == "False"


def test_a_report_of_a_newer_image_takes_nothing_away() -> None:
    seen = look(scene(PREPARE, COMPLETE, pods=(pod(report=Report("Cached", metrics={"samples": 200})),)))
    assert seen.condition("Prepared").status == "True"


def test_prepare_leaves_its_counts_in_the_status() -> None:
    report = Report("Succeeded", metrics={"samples": 200, "tokens": 9000})
    seen = look(scene(PREPARE, COMPLETE, pods=(pod(report=report),)))
    assert (seen.status.dataset.samples, seen.status.dataset.tokens) == (200, 9000)
    assert seen.condition("Prepared").message == "200 samples, 9000 tokens"


def test_prepare_leaves_lengths_and_warnings_too() -> None:
    metrics: dict[str, float] = {
        "samples": 200, "tokens": 9000, "evalSamples": 20, "truncatedSamples": 3,
        "lengthP50": 40, "lengthP90": 90, "lengthP99": 5000, "lengthMax": 8000,
    }  # fmt: skip
    report = Report("Succeeded", metrics=metrics, warnings=("tools: no JSON", "MoE with ZeRO-3 is slow"))
    seen = look(scene(PREPARE, COMPLETE, pods=(pod(report=report),)))
    assert seen.status.dataset.document() == metrics
    assert seen.condition("Prepared").message == (
        "200 samples, 9000 tokens, 20 samples to evaluate on, 3 cut off at spec.training.cutoffLen (the longest has "
        "8000 tokens); warning: tools: no JSON; warning: MoE with ZeRO-3 is slow"
    )
    warnings = [event for event in seen.plan.events if event.reason == Reason.PREPARATION_WARNING]
    assert [(event.type, event.message) for event in warnings] == [
        ("Warning", "tools: no JSON"), ("Warning", "MoE with ZeRO-3 is slow")
    ]  # fmt: skip
    again = look(seen.then(children=(child(TRAIN),), pods=()))
    assert again.condition("Prepared").message == seen.condition("Prepared").message
    assert Reason.PREPARATION_WARNING not in {event.reason for event in again.plan.events}


def test_a_complete_job_counts_without_its_pods() -> None:
    seen = look(scene(PREPARE, COMPLETE))
    assert seen.condition("Prepared").status == "True"
    assert seen.status.dataset is None


@pytest.mark.parametrize(("method", "kind"), [("full", "model"), ("freeze", "model"), ("qlora", "adapter")])
def test_the_trainer_says_what_kind_of_output_a_method_leaves(method: str, kind: str) -> None:
    report = Report("Succeeded", outputs={kind: {"path": "run/train/2/checkpoint-40"}})
    spec: dict[str, Any] = {"tuning": {"method": method}, "merge": {"enabled": False}}
    seen = look(scene(TRAIN, COMPLETE, pods=(pod(report=report),), **spec))
    assert getattr(seen.status.outputs, kind).path == "run/train/2/checkpoint-40"
    assert seen.message == "the model is at run/train/2/checkpoint-40 on claim support-workspace"


def test_training_leaves_figures_and_the_place_of_its_adapter() -> None:
    metrics = {"step": 500, "totalSteps": 500, "loss": 0.5, "initialLoss": 2.0}
    report = Report("Succeeded", metrics=metrics, outputs={"adapter": {"path": "run/train/1", "sizeBytes": 7}})
    seen = look(scene(TRAIN, COMPLETE, pods=(pod(1, report=Report("Succeeded")), pod(0, report=report))))
    assert seen.condition("Trained").message == "500 steps, loss 2 -> 0.5; adapter at run/train/1"
    assert seen.status.outputs.adapter.claim_name == "support-workspace"
    assert seen.status.progress.steps == "500/500"


@pytest.mark.parametrize("outputs", [{"adapter": {"sizeBytes": -1}}, {"adapter": "here"}, {"loot": {"path": "x"}}])
def test_outputs_that_make_no_sense_are_left_out(outputs: dict[str, object]) -> None:
    seen = look(scene(TRAIN, COMPLETE, pods=(pod(report=Report("Succeeded", outputs=outputs)),)))
    assert seen.condition("Trained").status == "True"
    assert seen.status.outputs is None


def test_counts_that_make_no_sense_are_left_out() -> None:
    report = Report("Succeeded", metrics={"samples": -1, "tokens": 9000})
    assert look(scene(PREPARE, COMPLETE, pods=(pod(report=report),))).status.dataset.samples is None


def test_the_run_succeeds_with_the_verified_merge() -> None:
    report = Report("Succeeded", outputs={"merged": {"path": "run/merged"}})
    seen = look(scene(MERGE, COMPLETE, pods=(pod(report=report),)))
    assert seen.headline == ("Succeeded", "Completed")
    assert seen.message == "the model is at run/merged on claim support-workspace"
    assert seen.status.completion_time == NOW


def test_a_job_from_before_a_crash_is_adopted_not_created_again() -> None:
    seen = look(scene(TRAIN, recorded=False))
    assert seen.actions == []
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).job_name) == (1, "support-train-1")


def test_a_start_waits_for_the_pods_of_an_earlier_attempt() -> None:
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    seen = look(replace(reserved, children=(child(TRAIN, deleting=True),)))
    assert seen.actions == []
    assert seen.headline == ("Restarting", "WaitingForPreviousAttempt")


def test_a_start_that_a_lost_node_holds_up_names_it() -> None:
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    overdue = pod(1, unreachable=True, deleted_at=later(minutes=-1))
    seen = look(replace(reserved, children=(child(TRAIN, deleting=True),), pods=(overdue,)))
    assert seen.headline == ("Restarting", "NodeLost")
    assert seen.message.startswith("waiting for the pods of support-train-1 to stop; pod pod-1 (node rank 1)")
    assert seen.plan.requeue_after == 15


def test_an_earlier_attempt_that_runs_on_is_stopped_before_the_next_starts() -> None:
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    assert look(replace(reserved, children=(child(TRAIN),))).actions == ["DeleteJob support-train-1"]


def test_a_stray_attempt_is_stopped_beside_the_current_one() -> None:
    running = scene(TRAIN, attempt=2)
    both = (*running.children, child(TRAIN))
    assert look(replace(running, children=both)).actions == ["DeleteJob support-train-1"]


def test_a_finished_job_on_its_way_out_holds_nothing_up() -> None:
    unstarted = scene(TRAIN, None, recorded=False)
    seen = look(replace(unstarted, children=(child(PREPARE, COMPLETE, deleting=True),)))
    assert seen.actions == ["EnsureConfigMap train-1", "CreateJob train-1"]


def test_service_and_config_map_come_back_under_a_running_training() -> None:
    seen = look(scene(TRAIN, observed={"service_exists": False, "config_maps": frozenset()}))
    assert seen.actions == ["EnsureService", "EnsureConfigMap train-1"]


def test_a_service_of_an_earlier_version_is_mended_between_attempts_and_not_under_one() -> None:
    older: dict[str, Any] = {"service_by_uid": False}
    assert look(scene(TRAIN, child_fields={"by_uid": False}, observed=older)).actions == []
    again = look(scene(TRAIN, None, attempt=2, recorded=False, observed=older))
    assert again.actions == ["EnsureService", "EnsureConfigMap train-2", "CreateJob train-2"]
    assert again.plan.actions[0] == EnsureService(by_uid=True)


def test_a_lost_service_comes_back_as_the_running_pods_need_it() -> None:
    gone: dict[str, Any] = {"service_exists": False}
    assert look(scene(TRAIN, child_fields={"by_uid": False}, observed=gone)).plan.actions == (
        EnsureService(by_uid=False),
    )
    assert look(scene(TRAIN, observed=gone)).plan.actions == (EnsureService(by_uid=True),)


def test_a_claim_that_cannot_serve_is_reported_before_pods_hang_on_it() -> None:
    seen = look(replace(new_run(storage={"volume": {"claimName": "models"}}), claims=()))
    assert seen.actions == []
    assert seen.headline == ("Pending", "StorageUnavailable")
    assert seen.plan.requeue_after == 30


def test_a_claim_with_prepared_data_is_not_replaced_by_an_empty_one() -> None:
    seen = look(scene(TRAIN, None, recorded=False, observed={"claim_exists": False}))
    assert seen.actions == []
    assert seen.headline == ("Training", "StorageUnavailable")


def test_a_running_job_does_not_care_what_the_claim_looks_like() -> None:
    assert look(scene(TRAIN, observed={"claims": (ClaimView("support-workspace", deleting=True),)})).headline == (
        "Training",
        "Running",
    )


def test_starting_pods_are_counted() -> None:
    seen = look(scene(TRAIN, child_fields={"ready": 1}))
    assert seen.headline == ("Training", "PodsStarting")
    assert seen.message == "1 of 2 pods of Job support-train-1 are ready"
    assert not seen.plan.poll


def test_a_job_without_pods_is_asked_why_after_a_while() -> None:
    assert look(scene(TRAIN, child_fields={"ready": 0, "active": 0})).plan.requeue_after == 15


def test_a_pod_that_is_done_before_its_peers_is_no_starting_pod() -> None:
    seen = look(scene(TRAIN, child_fields={"ready": 1, "succeeded": 1}))
    assert seen.headline == ("Training", "Running")


def test_a_pod_that_failed_is_told_before_kubernetes_fails_the_job() -> None:
    seen = look(scene(TRAIN, child_fields={"ready": 1}, pods=(failed(reason="DiskFull", message="disk full"),)))
    assert seen.headline == ("Training", "DiskFull")
    assert seen.message.endswith("disk full; waiting for the other pods to stop")


def test_training_and_merge_are_polled() -> None:
    assert look(scene(TRAIN)).plan.poll
    assert look(scene(MERGE)).plan.poll
    assert not look(scene(PREPARE)).plan.poll


def test_the_first_figures_of_another_attempt_are_told_at_once_though_it_has_run_for_some_passes_without() -> None:
    known = Progress(step=120, total_steps=500, last_update_time=later(seconds=-30))
    begun = child(TRAIN, attempt=2, created_at=later(seconds=-20))
    starting = look(replace(scene(TRAIN, attempt=2, status={"progress": known}), children=(begun,)))
    assert starting.headline[1] == "Running"
    resumed = look(starting.then(scrape=Scrape(step=118, total_steps=500)), later(seconds=10))
    assert (resumed.status.progress.step, resumed.status.progress.steps) == (118, "118/500")
    next_one = look(resumed.then(scrape=Scrape(step=119, total_steps=500)), later(seconds=20))
    assert next_one.plan.status is None, "from then on it moves seldom"


def test_a_scrape_becomes_progress() -> None:
    seen = look(scene(TRAIN, observed={"scrape": Scrape(step=120, total_steps=500, estimated_remaining_seconds=8100)}))
    assert (seen.status.progress.steps, seen.status.progress.eta) == ("120/500", "2h15m")


def test_a_loss_that_is_no_number_is_a_warning_of_its_own() -> None:
    seen = look(scene(TRAIN, observed={"scrape": Scrape(step=7, non_finite_loss=True)}))
    assert seen.headline == ("Training", "NonFiniteLoss")
    assert seen.events == [("Warning", "NonFiniteLoss")]
    assert seen.plan.poll


def test_a_run_that_does_not_train_shows_no_time_to_the_end() -> None:
    running = look(scene(TRAIN, observed={"scrape": Scrape(step=120, total_steps=500, estimated_remaining_seconds=60)}))
    seen = look(running.then(children=(child(TRAIN, ready=1),), scrape=None))
    assert (seen.status.progress.steps, seen.status.progress.eta) == ("120/500", None)


@pytest.mark.parametrize("reason", ["NameConflict", "QuotaExceeded", "Forbidden", "InvalidObject"])
def test_a_refused_action_is_the_headline(reason: str) -> None:
    seen = look(scene(TRAIN, None, recorded=False, observed={"obstacle": Obstacle(Reason(reason), "exceeded quota")}))
    assert seen.headline == ("Training", reason)
    assert seen.actions == []
    assert seen.stage(TRAIN).job_name is None


def test_a_refused_first_action_leaves_the_run_pending() -> None:
    assert look(replace(new_run(), obstacle=Obstacle(Reason.FORBIDDEN, "no"))).headline == ("Pending", "Forbidden")


def test_a_refusal_does_not_lose_what_prepare_achieved() -> None:
    seen = look(scene(PREPARE, COMPLETE, observed={"obstacle": Obstacle(Reason.QUOTA_EXCEEDED, "full")}))
    assert seen.condition("Prepared").status == "True"


def test_a_job_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    observed = scene(TRAIN, None, recorded=False)
    going = observed.job.metadata.replace(deletion_timestamp=NOW)
    plan = look(replace(observed, job=observed.job.replace(metadata=going))).plan
    assert (plan.actions, plan.status, plan.events, plan.requeue_after) == ((), None, (), None)


def test_fractions_of_a_second_do_not_reach_the_status() -> None:
    seen = look(new_run(), later(milliseconds=300))
    assert seen.status.start_time == NOW


def test_a_running_stage_keeps_its_start_time() -> None:
    first = look(scene(TRAIN, RUNNING))
    assert look(first.then(), later(minutes=5)).stage(TRAIN).start_time == first.stage(TRAIN).start_time


@pytest.mark.parametrize("stage", [TRAIN, MERGE])
def test_figures_that_cannot_be_read_are_told_once_and_change_nothing_else(stage: Stage) -> None:
    silent: dict[str, Any] = {"scrape": Scrape(unreachable=True)}
    seen = look(scene(stage, observed=silent))
    assert seen.headline[1] == "FiguresUnreachable"
    assert "does not answer on port 9400" in seen.message
    assert seen.events == [("Warning", "FiguresUnreachable")]
    assert (seen.actions, seen.plan.poll) == ([], True)
    again = look(seen.then())
    assert (again.plan.status, again.plan.events) == (None, ())
    restarted = look(seen.then(scrape=None))
    assert (restarted.plan.status, restarted.plan.events) == (None, ()), (
        "an operator that restarts does not say it anew"
    )
    assert look(seen.then(scrape=Scrape(step=3))).headline[1] == "Running"
