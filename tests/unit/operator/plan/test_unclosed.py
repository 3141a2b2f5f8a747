"""Attempts whose trainers have ended and whose Jobs have not: who is blamed, and when the run goes on."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft_operator.plan import Observed, needs_of
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import PodView, Report

from .builders import FAILING, MERGE, NOW, PREPARE, TRAIN, child, failed, later, look, pod, scene

TRACKING = "batch.kubernetes.io/job-tracking"
NOT_UP: dict[str, Any] = {"child_fields": {"ready": 0}}


def kept(index: int = 0, code: int = 0, *, at: int = 0, **fields: Any) -> PodView:
    """A pod whose trainer has ended while its sidecar runs on."""
    report = Report("Succeeded") if code == 0 else Report("Failed", "DiskFull", "disk full")
    ended = {"exit_code": code, "finished_at": later(seconds=at), "report": report}
    return pod(index, **(ended | {"sidecars": ("istio-proxy",)} | fields))


def ended(index: int = 0, **fields: Any) -> PodView:
    """A pod that has ended well."""
    return pod(index, **({"phase": "Succeeded", "exit_code": 0, "finished_at": NOW} | fields))


def test_a_sidecar_that_runs_on_is_named_at_once_with_the_fix() -> None:
    seen = look(scene(PREPARE, pods=(kept(),), **NOT_UP), later(seconds=2))
    assert seen.headline == ("Preparing", "SidecarRunning")
    assert "pod pod-0 has ended, but not the container istio-proxy" in seen.message
    assert 'sidecar.istio.io/inject: "false" in spec.worker.podLabels' in seen.message
    assert seen.actions == []
    assert (seen.plan.requeue_after or 99) <= 30


def test_a_stage_that_a_sidecar_keeps_is_done_half_a_minute_later_and_then_its_job_is_stopped() -> None:
    seen = look(scene(PREPARE, pods=(kept(),), **NOT_UP), later(seconds=30))
    assert seen.headline == ("Training", "SidecarRunning")
    assert (seen.actions, seen.plan.requeue_after) == ([], 0)
    assert seen.stage(PREPARE).completion_time == NOW
    assert {("Normal", "Prepared"), ("Warning", "SidecarRunning")} <= set(seen.events)
    following = look(seen.then(), later(seconds=31))
    assert following.actions == ["DeleteJob support-prepare-1"]
    assert following.headline == ("Training", "WaitingForPreviousAttempt")
    gone = look(following.then(children=(), pods=()), later(seconds=40))
    assert gone.actions == ["EnsureConfigMap train-1", "CreateJob train-1"]


def test_the_last_stage_ends_the_run_before_its_job_is_stopped() -> None:
    report = Report("Succeeded", outputs={"merged": {"path": "runs/support/merged"}})
    seen = look(scene(MERGE, pods=(kept(report=report),), **NOT_UP), later(seconds=30))
    assert seen.headline == ("Succeeded", "Completed")
    assert (seen.actions, seen.plan.requeue_after) == ([], 0)
    assert seen.status.outputs.merged.path == "runs/support/merged"
    assert look(seen.then(), later(seconds=31)).actions == ["DeleteJob support-merge-1"]


def test_a_gang_is_done_when_all_its_trainers_are() -> None:
    half = look(scene(TRAIN, pods=(kept(0), pod(1)), **NOT_UP), later(minutes=9))
    assert half.stage(TRAIN).completion_time is None
    assert half.headline[1] != "SidecarRunning"
    done = look(scene(TRAIN, pods=(kept(0), ended(1)), **NOT_UP), later(seconds=30))
    assert done.stage(TRAIN).completion_time == NOW


def test_a_failure_behind_a_sidecar_is_a_failure_and_the_attempt_is_stopped_before_the_next() -> None:
    early = look(scene(TRAIN, pods=(kept(0, 1), pod(1)), **NOT_UP), later(seconds=29))
    assert (early.headline[1], early.stage(TRAIN).restarts) == ("DiskFull", None)
    seen = look(scene(TRAIN, pods=(kept(0, 1), pod(1)), **NOT_UP), later(seconds=30))
    assert seen.headline == ("Restarting", "DiskFull")
    assert "istio-proxy" in seen.message
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).restarts) == (2, 1)
    assert (seen.actions, seen.plan.requeue_after) == ([], 0)
    assert look(seen.then(), later(seconds=31)).actions == ["DeleteJob support-train-1"]
    assert look(seen.then(), later(seconds=99)).actions == ["DeleteJob support-train-1"], "never one beside the other"


def test_a_pod_without_sidecars_whose_end_is_not_told_yet_is_left_alone() -> None:
    seen = look(scene(PREPARE, pods=(kept(sidecars=()),), **NOT_UP), later(minutes=9))
    assert (seen.stage(PREPARE).completion_time, seen.actions) == (None, [])


def test_suspending_a_run_that_a_sidecar_keeps_loses_nothing() -> None:
    held = look(scene(PREPARE, suspend=True, pods=(kept(),), **NOT_UP), later(seconds=30))
    assert held.stage(PREPARE).completion_time == NOW
    stopping = look(held.then(), later(seconds=31))
    assert (stopping.headline, stopping.actions) == (("Suspended", "Suspending"), ["DeleteJob support-prepare-1"])


def test_a_preparation_that_is_through_is_looked_at_again_although_nothing_happens_any_more() -> None:
    pods = (ended(finalizers=(TRACKING,)),)
    seen = look(scene(PREPARE, pods=pods, child_fields={"ready": 0, "succeeded": 1}), later(seconds=1))
    assert (seen.headline, seen.plan.requeue_after) == (("Preparing", "Running"), 15)


def through(**fields: Any) -> Observed:
    """All pods of a training have ended well, and its Job has not."""
    pods = (ended(0, finalizers=(TRACKING,)), ended(1))
    return scene(TRAIN, pods=pods, child_fields={"ready": 0, "succeeded": 2, "active": 0}, **fields)


def test_a_job_that_stays_although_all_pods_have_ended_is_told_with_the_usual_cause() -> None:
    early = look(through(), later(seconds=29))
    assert (early.headline, early.plan.requeue_after) == (("Training", "Running"), 15)
    seen = look(through(), later(seconds=30))
    assert seen.headline == ("Training", "JobStuck")
    assert f"finalizer {TRACKING} off pod pod-0" in seen.message
    assert "admission policy or webhook refuses updates of pods" in seen.message
    assert (seen.actions, seen.plan.requeue_after) == ([], 15)


def test_the_pods_of_a_job_that_is_about_to_complete_are_read() -> None:
    observed = through()
    needed = needs_of(Run(replace(observed, pods=())))
    assert (needed.pods, needed.figures) == (observed.children[0], None)


def test_a_failing_job_that_stays_although_all_pods_have_ended_is_told() -> None:
    pods = (failed(0, finalizers=(TRACKING,)), failed(1))
    early = look(scene(TRAIN, FAILING, pods=pods), later(seconds=29))
    assert "waiting for the other pods" not in early.message, "there are none"
    seen = look(scene(TRAIN, FAILING, pods=pods), later(seconds=30))
    assert seen.headline == ("Training", "JobStuck")
    assert "exited with code 1; all pods of Job support-train-1 have ended" in seen.message


@pytest.mark.parametrize("suspend", [False, True])
def test_a_job_that_cannot_be_deleted_names_the_finalizers(*, suspend: bool) -> None:
    reserved = scene(TRAIN, None, attempt=2, recorded=False, suspend=suspend)
    leftover = child(TRAIN, deleting=True, ready=0)
    seen = look(
        replace(reserved, children=(leftover,), pods=(ended(finalizers=("acme.io/audit",)),)), later(seconds=30)
    )
    assert seen.headline[1] == "JobStuck"
    assert "pod pod-0 is held by its finalizers (acme.io/audit)" in seen.message


def test_a_sidecar_of_a_trainer_that_has_failed_is_told_when_its_node_is_lost() -> None:
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    pods = (kept(0, 1, deleted_at=NOW),)
    left = replace(reserved, children=(child(TRAIN, deleting=True, ready=0),), pods=pods)
    assert look(left, later(seconds=29)).headline == ("Restarting", "WaitingForPreviousAttempt")
    assert look(left, later(seconds=31)).headline == ("Restarting", "PodNotStopping")


def test_a_pod_that_has_ended_and_whose_node_does_not_confirm_its_deletion_is_told() -> None:
    """The kubelet has written how the pod ended, and was gone before it let go of it (kubernetes-sigs/kueue#10847)."""
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    left = replace(reserved, children=(child(TRAIN, deleting=True, ready=0),), pods=(failed(deleted_at=NOW),))
    assert look(left, later(seconds=29)).headline == ("Restarting", "WaitingForPreviousAttempt")
    seen = look(left, later(minutes=1))
    assert seen.headline == ("Restarting", "JobStuck")
    assert "does not confirm that pod pod-0, which has ended, is gone" in seen.message
    assert "kubectl delete pod pod-0 -n team --grace-period=0 --force" in seen.message


def test_a_job_that_others_hold_while_it_is_being_deleted_says_so() -> None:
    fields: dict[str, Any] = {"deleting": True, "held_by": ("acme.io/audit",)}
    seen = look(scene(TRAIN, child_fields=fields))
    assert (seen.headline[1], "finalizers (acme.io/audit)" in seen.message) == ("JobDeleted", True)
    reserved = scene(TRAIN, None, attempt=2, recorded=False)
    waiting = look(replace(reserved, children=(child(TRAIN, **fields),)))
    assert "finalizers (acme.io/audit)" in waiting.message


def test_a_job_without_a_controller_is_told() -> None:
    pods = (ended(0), ended(1))
    seen = look(scene(TRAIN, pods=pods, child_fields={"ready": 0, "active": 2}), later(minutes=1))
    assert seen.headline[1] == "JobStuck"
    assert "kube-controller-manager" in seen.message


@pytest.mark.parametrize("known", ["created_at", "scheduled_at", "deleted_at"])
def test_a_stuck_job_is_told_also_when_a_pod_tells_no_time_of_its_end(known: str) -> None:
    rejected = pod(0, phase="Failed", rejected="OutOfcpu", finalizers=(TRACKING,), **{known: NOW})
    failing = scene(TRAIN, FAILING, pods=(rejected, failed(1)))
    assert look(failing, later(seconds=29)).headline[1] == "PodRejected"
    assert look(failing, later(seconds=30)).headline[1] == "JobStuck"


def test_a_job_that_has_just_begun_to_fail_is_not_stuck_however_old_its_pods_are() -> None:
    rejected = pod(0, phase="Failed", rejected="Evicted: ", finalizers=(TRACKING,), scheduled_at=later(hours=-1))
    failing = scene(TRAIN, FAILING, pods=(rejected, failed(1, at=-60)), child_fields={"finished_at": NOW})
    assert look(failing, later(seconds=29)).headline[1] != "JobStuck"
    assert look(failing, later(seconds=30)).headline[1] == "JobStuck"


def test_pods_that_a_node_rejects_are_a_failure_and_no_stuck_job() -> None:
    rejected = (pod(0, phase="Failed", rejected="OutOfcpu"), pod(1, phase="Failed", rejected="OutOfcpu"))
    seen = look(scene(TRAIN, FAILING, pods=rejected), later(hours=1))
    assert seen.headline == ("Training", "PodRejected")


def test_a_pod_that_is_told_to_stop_has_its_grace_period_with_its_sidecar() -> None:
    stopping = kept(0, 143, deleted_at=later(minutes=5), report=None)
    seen = look(scene(TRAIN, pods=(stopping, pod(1)), **NOT_UP), later(minutes=1))
    assert (seen.stage(TRAIN).attempt, seen.actions) == (1, [])
