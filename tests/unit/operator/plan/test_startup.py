"""What keeps a child Job's pods from starting, and what is merely a hitch."""

import pytest

from qwensft.api.v1alpha1 import Reason, Stage
from qwensft_operator.plan.causes import Cause
from qwensft_operator.plan.startup import diagnose, readiness
from qwensft_operator.plan.types import Trouble

from .builders import NOW, RUNNING, TRAIN, child, later, pod


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unreachable": True}, "NodeLost"),
        ({"unschedulable": "0/3 nodes are available"}, "Unschedulable"),
        ({"waiting_reason": "ImagePullBackOff"}, "ImagePullFailed"),
        ({"waiting_reason": "ErrImageNeverPull"}, "ImagePullFailed"),
        ({"waiting_reason": "CreateContainerConfigError"}, "PodNotStarting"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told(fields: dict[str, object], reason: str) -> None:
    told = diagnose(child(), (pod(0), pod(1, **fields)), wanted=2, now=NOW)
    assert told is not None
    assert told.reason == reason
    assert "pod pod-1 (node rank 1)" in told.message


@pytest.mark.parametrize("waiting", ["", "ContainerCreating", "PodInitializing"])
def test_a_pod_that_is_merely_starting_is_no_problem(waiting: str) -> None:
    assert diagnose(child(), (pod(waiting_reason=waiting),), wanted=1, now=NOW) is None


@pytest.mark.parametrize(
    ("complaint", "reason"),
    [
        ("FailedMount", "VolumeMountFailed"),
        ("FailedAttachVolume", "VolumeMountFailed"),
        ("FailedMapVolume", "VolumeMountFailed"),
        ("FailedCreatePodSandBox", "PodNotStarting"),
    ],
)
def test_a_pod_that_its_node_cannot_bring_up_quotes_the_event(complaint: str, reason: str) -> None:
    stuck = pod(1, phase="Pending", trouble=Trouble(complaint, 'configmap "x" not found', later(seconds=-30)))
    told = diagnose(child(), (pod(0), stuck), wanted=2, now=NOW)
    assert told is not None
    assert told.reason == reason
    assert told.message == f'pod pod-1 (node rank 1) on node node-1: {complaint}: configmap "x" not found'


def test_a_hitch_of_a_start_is_no_problem() -> None:
    hitch = pod(phase="Pending", trouble=Trouble("FailedMount", "cache not synced", later(seconds=-29)))
    assert diagnose(child(), (hitch,), wanted=1, now=NOW) is None


def test_a_claim_without_volume_is_told_for_the_pods_that_wait_for_it() -> None:
    waiting = pod(0, phase="Pending", node="", unschedulable="pod has unbound immediate PersistentVolumeClaims")
    told = diagnose(child(), (waiting,), wanted=1, now=NOW, storage="claim models has no volume")
    assert told is not None
    assert told.reason == "StorageUnavailable"
    assert told.message == "pod pod-0 (node rank 0) cannot be scheduled: claim models has no volume"
    assert diagnose(child(), (pod(0),), wanted=1, now=NOW, storage="claim models has no volume") is None


def test_a_node_that_lost_contact_is_named_with_what_lets_the_run_go_on() -> None:
    told = diagnose(child(), (pod(0), pod(1, unreachable=True)), wanted=2, now=NOW)
    assert told is not None
    assert "pod pod-1 (node rank 1) on node node-1: the node no longer answers" in told.message
    assert "kubectl delete node node-1" in told.message


def test_a_quota_that_lets_only_some_pods_in_is_told() -> None:
    failures = ("exceeded quota", "older")
    told = diagnose(child(state=RUNNING), (pod(0),), wanted=2, now=NOW, creation_failures=failures)
    assert told == Cause(Reason.POD_CREATION_FAILED, "Job support-train-1 cannot create its pods: exceeded quota")


@pytest.mark.parametrize(
    "words",
    [
        "failed quota: compute: must specify limits.memory for: trainer; requests.cpu for: trainer",
        "maximum memory usage per Container is 4Gi, but limit is 64Gi",
        "exceeded quota: compute, requested: limits.memory=64Gi, used: limits.memory=0, limited: limits.memory=8Gi",
    ],
)
@pytest.mark.parametrize("stage", list(Stage))
def test_amounts_that_a_quota_refuses_are_named_with_their_field(stage: Stage, words: str) -> None:
    told = diagnose(child(stage, ready=0), (), wanted=1, now=NOW, creation_failures=(words,))
    field = {"prepare": "spec.prepare", "train": "spec.worker", "merge": "spec.merge"}[stage] + ".resources"
    assert told is not None
    assert told.message.endswith(f"cannot create its pods: {words}; set or change them in {field}")


def test_a_quota_of_pods_is_no_matter_of_resources() -> None:
    words = "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
    told = diagnose(child(TRAIN, ready=0), (), wanted=1, now=NOW, creation_failures=(words,))
    assert told is not None
    assert told.message.endswith(words)


def test_a_creation_that_failed_before_all_pods_came_is_forgotten() -> None:
    told = diagnose(child(), (pod(0), pod(1)), wanted=2, now=NOW, creation_failures=("exceeded quota",))
    assert told is None


@pytest.mark.parametrize(
    ("ready", "wanted", "words"),
    [
        (0, 1, "0 of 1 pods of Job j are ready"),
        (9, 10, "9 of 10 pods of Job j are ready"),
        (24, 256, "0 of 256 pods of Job j are ready"),
        (74, 256, "at least 50 of 256 pods of Job j are ready"),
    ],
)
def test_of_a_large_gang_the_ready_pods_are_told_in_steps(ready: int, wanted: int, words: str) -> None:
    assert readiness("j", ready, wanted) == words
