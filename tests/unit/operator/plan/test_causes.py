"""Why an attempt ended: the cause that is named, whether it is permanent and whether it counts."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Reason, Stage
from qwensft_operator.plan.causes import Cause, classify
from qwensft_operator.plan.types import PodView, Report

from .builders import FAILED, MERGE, PREPARE, TRAIN, child, failed, interrupted, later, look, pod, scene

EVICTED = "Pod team/support-train-1-0 has condition DisruptionTarget matching FailJob rule at index 1"
EXIT_78 = "Container trainer for pod team/x failed with exit code 78 matching FailJob rule at index 0"


def cause(*pods: PodView, stage: Stage = TRAIN, reason: str = "BackoffLimitExceeded", message: str = "") -> Cause:
    return classify(child(stage, FAILED, reason=reason, message=message), pods)


def test_the_trainer_is_quoted_with_pod_rank_and_exit_code() -> None:
    told = cause(failed(1, reason="OutOfMemory", message="lower cutoffLen"))
    assert told == Cause(
        Reason.OUT_OF_MEMORY, "pod pod-1 (node rank 1) on node node-1 exited with code 1: lower cutoffLen"
    )


def test_a_stage_of_one_pod_has_no_ranks() -> None:
    assert (
        cause(failed(reason="DownloadFailed"), stage=PREPARE).message
        == "pod pod-0 on node node-0 exited with code 1: DownloadFailed"
    )


def test_a_missing_accelerator_is_told_with_its_node_and_uses_up_a_restart() -> None:
    told = cause(failed(1, reason="AcceleratorMissing", message="check the driver", node="gpu-7"))
    message = "pod pod-1 (node rank 1) on node gpu-7 exited with code 1: check the driver"
    assert told == Cause(Reason.ACCELERATOR_MISSING, message, permanent=False, counted=True)


def test_the_earliest_failure_is_the_cause() -> None:
    pods = (failed(0, reason="TrainingFailed", at=9), failed(1, reason="DiskFull", at=3))
    assert cause(*pods).reason == "DiskFull"


def test_what_a_newer_image_calls_an_end_is_a_failure_with_its_words() -> None:
    newer = replace(failed(0, at=9), report=Report("Crashed", "OutOfMemory", "lower cutoffLen"))
    assert cause(newer, failed(1, reason="DiskFull", at=20)).reason == "OutOfMemory"
    newer = replace(failed(0), report=Report("Crashed", "TeapotOverflow", "drink it"))
    assert (cause(newer).reason, "drink it" in cause(newer).message) == ("TrainingFailed", True)


def test_a_lost_peer_is_never_the_cause_when_another_pod_failed() -> None:
    pods = (failed(0, reason="PeerLost", at=1), failed(1, reason="OutOfMemory", at=5))
    assert cause(*pods).reason == "OutOfMemory"


def test_a_pod_that_could_not_report_is_named_before_those_that_lost_it() -> None:
    told = cause(failed(0, reason="PeerLost", at=1), failed(1, 139, at=5, exit_message="Segmentation fault"))
    assert told.reason == "TrainingFailed"
    assert told.message == "pod pod-1 (node rank 1) on node node-1 exited with code 139: Segmentation fault"


def test_a_lost_peer_is_no_reason_even_when_nothing_else_is_left() -> None:
    told = cause(failed(0, reason="PeerLost", message="rank 1 is gone"))
    assert (told.reason, told.counted) == ("TrainingFailed", True)
    assert "rank 1 is gone; all pods that are left lost another one" in told.message


def test_pods_that_were_stopped_are_an_interruption_when_nothing_else_is_left() -> None:
    assert cause(interrupted(0), interrupted(1)).reason == "Interrupted"


def test_a_pod_that_had_no_time_to_save_is_a_consequence_too() -> None:
    killed = failed(0, 137, reason="KilledBeforeSaved", message="its grace period ended", at=1)
    assert cause(killed, failed(1, reason="DiskFull", at=9)).reason == "DiskFull"
    assert cause(killed, failed(1, reason="PeerLost", at=9)).reason == "KilledBeforeSaved"


def test_the_kernel_names_the_field_to_raise() -> None:
    told = cause(failed(1, 137, exit_reason="OOMKilled"), failed(0, reason="PeerLost", at=2))
    assert told.reason == "OutOfMemory"
    assert "raise the memory limit in spec.worker.resources" in told.message


@pytest.mark.parametrize(("stage", "field"), [(PREPARE, "spec.prepare.resources"), (MERGE, "spec.merge.resources")])
def test_each_stage_names_its_own_memory(stage: Stage, field: str) -> None:
    assert field in cause(failed(0, 137, exit_reason="OOMKilled"), stage=stage).message


def test_an_evicted_pod_does_not_count() -> None:
    told = cause(interrupted(0, disrupted="EvictionByEvictionAPI"), interrupted(1))
    assert (told.reason, told.counted) == ("Preempted", False)
    assert told.message == "pod pod-0 (node rank 0) was evicted (EvictionByEvictionAPI)"


def test_pods_that_were_to_start_from_different_places_cost_no_restart() -> None:
    pods = (failed(0, reason="StartMismatch", message="step 40 and 60", at=2), failed(1, reason="StartMismatch", at=1))
    told = cause(*pods)
    assert (told.reason, told.counted, told.permanent) == (Reason.START_MISMATCH, False, False)


def test_an_eviction_is_the_cause_of_failures_after_it() -> None:
    evicted = interrupted(0, at=30, disrupted="PreemptionByScheduler", disrupted_at=later(seconds=1))
    assert not cause(evicted, failed(1, reason="TrainingFailed", message="NCCL error", at=9)).counted


def test_a_failure_before_the_eviction_counts() -> None:
    evicted = interrupted(0, at=30, disrupted="PreemptionByScheduler", disrupted_at=later(seconds=20))
    assert cause(evicted, failed(1, reason="DiskFull", at=9)).counted


def test_a_pod_that_failed_before_it_was_evicted_tells_why() -> None:
    assert cause(failed(reason="DiskFull", disrupted="TerminationByKubelet", disrupted_at=later(seconds=9))).counted


def test_an_eviction_is_known_from_the_job_when_its_pod_is_gone() -> None:
    told = cause(failed(1, reason="TrainingFailed", at=9), reason="PodFailurePolicy", message=EVICTED)
    assert told == Cause(Reason.PREEMPTED, EVICTED, counted=False)


def test_a_pod_that_vanished_before_it_started_was_still_evicted() -> None:
    assert not cause(pod(0, phase="Failed", disrupted="DeletionByTaintManager")).counted


def test_exit_code_78_is_permanent_whoever_failed_first() -> None:
    pods = (failed(0, reason="DiskFull", at=1), failed(1, 78, reason="InvalidDataset", message="row 7", at=5))
    assert cause(*pods) == Cause(
        Reason.INVALID_DATASET, "pod pod-1 (node rank 1) exited with code 78: row 7", permanent=True
    )


def test_exit_code_78_is_permanent_without_a_report() -> None:
    assert cause(failed(0, reason="DiskFull"), failed(1, 78)).permanent


def test_exit_code_78_is_known_from_the_job_when_its_pod_is_gone() -> None:
    assert cause(failed(1, reason="DiskFull"), reason="PodFailurePolicy", message=EXIT_78).permanent


def test_another_exit_code_in_the_message_is_not_permanent() -> None:
    assert not cause(reason="PodFailurePolicy", message=EXIT_78.replace("78", "178")).permanent


def test_a_prepare_that_takes_too_long_may_be_tried_again() -> None:
    told = cause(interrupted(), stage=PREPARE, reason="DeadlineExceeded")
    assert (told.reason, told.permanent, told.counted) == ("DeadlineExceeded", False, True)
    assert told.message == "Job support-prepare-1 ran longer than spec.prepare.activeDeadlineSeconds"


@pytest.mark.parametrize(
    "words",
    ["UnexpectedAdmissionError: no healthy devices", "OutOfcpu: Node didn't have enough resource", "NodeAffinity"],
)
def test_a_pod_that_the_node_refused_is_told_in_the_nodes_words_and_costs_nothing(words: str) -> None:
    told = cause(pod(phase="Failed", rejected=words))
    assert (told.reason, told.counted, told.permanent) == ("PodRejected", False, False)
    assert told.message.startswith(f"pod pod-0 (node rank 0) on node node-0 failed: {words}; ")


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ('Container trainer exceeded its local ephemeral storage limit "1Gi".', "spec.worker.resources"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.", "spec.worker.resources"),
        ('Usage of EmptyDir volume "shared-memory" exceeds the limit "1Gi".', "spec.worker.sharedMemory"),
    ],
)
def test_a_pod_that_used_more_than_its_own_storage_is_told_so_before_its_exit_code(words: str, fix: str) -> None:
    told = cause(failed(1, 137, exit_reason="Error", rejected=f"Evicted: {words}"))
    assert (told.reason, told.counted) == ("LocalStorageExceeded", True)
    assert words in told.message
    assert fix in told.message


def test_a_pod_that_a_full_node_evicted_costs_nothing() -> None:
    told = cause(failed(1, 137, rejected="Evicted: The node was low on resource: ephemeral-storage."))
    assert (told.reason, told.counted) == ("Preempted", False)


def test_what_was_seen_before_a_deleted_pod_vanished_is_the_cause() -> None:
    seen = Cause(Reason.INTERRUPTED, "pod pod-0 was deleted")
    job = child(TRAIN, FAILED, reason="BackoffLimitExceeded", message="limit reached")
    assert classify(job, (), seen) == seen
    assert classify(job, (failed(1, reason="PeerLost"),), seen) == seen
    assert classify(job, (failed(1, reason="DiskFull"),), seen).reason == "DiskFull"


def test_without_pods_the_job_itself_is_quoted() -> None:
    assert cause(message="limit reached") == Cause(Reason.TRAINING_FAILED, "limit reached")
    assert cause() == Cause(Reason.TRAINING_FAILED, "Job support-train-1 failed")


@pytest.mark.parametrize("reason", ["", "out of memory!", "SomethingNew", "PeerLost"])
@pytest.mark.parametrize("code", [1, 78])
def test_a_reason_that_the_api_does_not_know_becomes_the_stages_own(reason: str, code: int) -> None:
    report = Report("Failed", reason, "words")
    assert cause(failed(code=code, report=report), stage=MERGE).reason == "MergeFailed"
    assert "words" in cause(failed(code=code, report=report)).message


def test_a_pod_that_ended_well_is_no_cause_of_a_failure() -> None:
    done = pod(0, phase="Succeeded", exit_code=0, disrupted="EvictionByEvictionAPI")
    assert cause(done, failed(1, reason="DiskFull")).reason == "DiskFull"


def test_pods_of_a_deleted_node_are_a_lost_node_and_no_counted_failure() -> None:
    told = cause(pod(1, phase="Failed", disrupted="DeletionByPodGC"), failed(0, reason="PeerLost"))
    assert told == Cause(Reason.NODE_LOST, "pod pod-1 (node rank 1) was on node node-1, which is gone", counted=False)


def test_the_order_of_the_pods_does_not_matter() -> None:
    pods = (failed(0, reason="DiskFull", at=2), failed(1, reason="OutOfMemory", at=1), interrupted(2))
    assert cause(*pods) == cause(*reversed(pods))
    assert cause(*pods) == cause(*(replace(p) for p in pods))


def test_a_pod_that_was_deleted_before_its_container_ran_costs_nothing() -> None:
    unrun = pod(1, phase="Failed", deleted_at=later())
    told = cause(unrun)
    assert (told.reason, told.counted) == ("Interrupted", False)
    assert told.message == "pod pod-1 (node rank 1) was deleted before its container ran, so no restart counts"


def test_a_pod_that_was_deleted_with_its_gang_before_it_ran_is_not_blamed_for_the_gang() -> None:
    unrun = pod(0, phase="Failed", deleted_at=later())
    told = cause(unrun, failed(1, 139, exit_message="Segmentation fault"))
    assert (told.reason, told.counted) == ("TrainingFailed", True)
    assert "Segmentation fault" in told.message


@pytest.mark.parametrize("fields", [{"node": "", "without_grace": True}, {"node": "node-0"}])
def test_a_pending_pod_that_is_deleted_costs_nothing_also_when_it_is_gone(fields: dict[str, Any]) -> None:
    going = pod(0, phase="Pending", deleted_at=later(), **fields)
    seen = look(scene(TRAIN, pods=(going, pod(1)), child_fields={"ready": 1}))
    assert seen.headline == ("Training", "Interrupted")
    assert "pod pod-0 (node rank 0) was deleted before its container ran" in seen.message
    gone = child(TRAIN, FAILED, reason="BackoffLimitExceeded", finished_at=later())
    after = look(seen.then(children=(gone,), pods=()))
    assert (after.stage(TRAIN).attempt, after.stage(TRAIN).restarts) == (2, None)
