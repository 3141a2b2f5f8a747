"""Jobs and pods as Kubernetes writes them, reduced to what decisions need."""

import json
from typing import Any

import pytest

from qwensft.plan import child_job, pod_view, pods_wanted, scrape_wanted
from qwensft.plan.observed import report
from qwensft.plan.types import ChildJob, JobState, Stage

from .builders import COMPLETE, FAILED, FAILING, PREPARE, RUNNING, TRAIN, UID, child, later, new_run, scene


def job_manifest(*conditions: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "support-train-2",
            "uid": "u2",
            "creationTimestamp": "2026-01-02T12:00:00Z",
            "labels": {"qwensft.io/stage": "train", "qwensft.io/attempt": "2"},
            "ownerReferences": [{"uid": UID}],
        },
        "status": {
            "conditions": [
                {"type": c, "status": "True", "reason": "Because", "lastTransitionTime": "2026-01-02T12:00:09Z"}
                for c in conditions
            ],
            **status,
        },
    }


def read(manifest: dict[str, Any]) -> ChildJob:
    """The Job of a run, as the operator sees it."""
    seen = child_job(manifest, UID)
    assert seen is not None
    return seen


def pod_manifest(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "sidecar", "state": {}}, {"name": "trainer", "state": state or {}}]
    return {
        "metadata": {"name": "p", "annotations": {"batch.kubernetes.io/job-completion-index": "3"}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": containers, **status},
    }


def test_a_job_tells_stage_attempt_and_age() -> None:
    seen = read(job_manifest(active=2, ready=1))
    assert (seen.stage, seen.attempt, seen.active, seen.ready) == (Stage.TRAIN, 2, 2, 1)
    assert seen.created_at == later()


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ((), JobState.RUNNING),
        (("SuccessCriteriaMet",), JobState.RUNNING),
        (("FailureTarget",), JobState.FAILING),
        (("FailureTarget", "Failed"), JobState.FAILED),
        (("SuccessCriteriaMet", "Complete"), JobState.COMPLETE),
    ],
)
def test_the_state_is_read_from_true_conditions(conditions: tuple[str, ...], state: JobState) -> None:
    assert read(job_manifest(*conditions)).state is state


def test_a_condition_that_is_false_says_nothing() -> None:
    manifest = job_manifest("Failed")
    manifest["status"]["conditions"][0]["status"] = "False"
    assert read(manifest).state is JobState.RUNNING


def test_pods_that_are_not_counted_yet_have_succeeded_too() -> None:
    assert read(job_manifest(succeeded=1, uncountedTerminatedPods={"succeeded": ["a", "b"]})).succeeded == 3


@pytest.mark.parametrize(
    "labels", [{}, {"qwensft.io/stage": "train"}, {"qwensft.io/stage": "cook", "qwensft.io/attempt": "1"}]
)
def test_a_job_without_stage_or_attempt_is_not_ours(labels: dict[str, str]) -> None:
    manifest = job_manifest()
    manifest["metadata"]["labels"] = labels
    assert child_job(manifest, UID) is None


def test_a_job_of_another_owner_is_not_ours() -> None:
    assert child_job(job_manifest(), "another") is None
    assert child_job({"metadata": {"name": "x", "labels": None}}, UID) is None


def test_an_ended_pod_tells_how() -> None:
    ended = {"exitCode": 1, "reason": "Error", "message": "line 1\nboom\n\n", "finishedAt": "2026-01-02T12:00:05Z"}
    seen = pod_view(pod_manifest({"terminated": ended}))
    assert (seen.index, seen.node, seen.exit_code, seen.exit_reason) == (3, "n1", 1, "Error")
    assert (seen.exit_message, seen.report, seen.finished_at) == ("boom", None, later(seconds=5))


def test_a_waiting_pod_tells_why() -> None:
    seen = pod_view(pod_manifest({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))
    assert (seen.waiting_reason, seen.waiting_message, seen.exit_code) == ("ImagePullBackOff", "no such image", None)


def test_a_pod_that_found_no_node_quotes_the_scheduler() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert pod_view({"metadata": {"name": "p"}, "status": {"conditions": [condition]}}).unschedulable == "0/3 nodes"


def test_a_pod_that_is_being_evicted_tells_since_when() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    seen = pod_view(pod_manifest(conditions=[condition | {"lastTransitionTime": "2026-01-02T12:00:01Z"}]))
    assert (seen.disrupted, seen.disrupted_at) == ("EvictionByEvictionAPI", later(seconds=1))
    assert pod_view(pod_manifest(conditions=[condition | {"status": "False"}])).disrupted == ""


def test_a_pod_on_a_silent_node_is_unreachable() -> None:
    condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    assert pod_view(pod_manifest(conditions=[condition])).unreachable
    assert pod_view(pod_manifest(reason="NodeLost")).unreachable
    assert not pod_view(pod_manifest()).unreachable


def test_a_pod_that_a_node_refused_quotes_the_kubelet() -> None:
    seen = pod_view({"metadata": {"name": "p"}, "status": {"phase": "Failed", "reason": "OutOfcpu", "message": "no"}})
    assert (seen.phase, seen.rejected) == ("Failed", "OutOfcpu: no")


def test_a_pod_that_was_just_created_is_pending() -> None:
    assert pod_view({"metadata": {"name": "p"}}).phase == "Pending"


def test_a_report_is_read_whole() -> None:
    text = json.dumps({"outcome": "Failed", "reason": "DiskFull", "message": "m", "rank": 1, "metrics": {"step": 3}})
    seen = report(text)
    assert seen is not None
    assert (seen.outcome, seen.reason, seen.message, seen.rank, seen.metrics) == (
        "Failed",
        "DiskFull",
        "m",
        1,
        {"step": 3},
    )


@pytest.mark.parametrize("text", ["", "Segmentation fault", "[]", "1", "{}", '{"outcome": 1}', "[" * 4000, "\x00"])
def test_what_is_no_report_is_none(text: str) -> None:
    assert report(text) is None


@pytest.mark.parametrize("value", ['"many"', "true", "NaN", "Infinity", "1e400", "9" * 400, "null", "[1]"])
def test_a_figure_that_is_no_finite_number_is_left_out(value: str) -> None:
    seen = report(f'{{"outcome": "Succeeded", "metrics": {{"step": 3, "loss": {value}}}}}')
    assert seen is not None
    assert seen.metrics == {"step": 3}


def test_pods_are_read_only_when_there_is_something_to_ask() -> None:
    job = scene(TRAIN).job
    assert pods_wanted(job, (child(TRAIN),)) is None
    for asked in (child(TRAIN, ready=1), child(TRAIN, FAILING), child(TRAIN, FAILED), child(TRAIN, COMPLETE)):
        assert pods_wanted(job, (asked,)) == asked
    assert pods_wanted(job, (child(PREPARE, COMPLETE),)) is None
    assert pods_wanted(new_run().job, ()) is None


def test_only_a_training_that_is_up_is_scraped() -> None:
    assert scrape_wanted(scene(TRAIN).job, (child(TRAIN),)) == child(TRAIN)
    assert scrape_wanted(scene(TRAIN).job, (child(TRAIN, ready=1),)) is None
    assert scrape_wanted(scene(PREPARE).job, (child(PREPARE, RUNNING),)) is None
