"""Jobs and pods as Kubernetes writes them, reduced to what decisions need."""

import json
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage, editable_digest
from qwensft_operator.plan import child_job, claim_view, pod_view
from qwensft_operator.plan.types import ChildJob, ClaimView, JobState, Trouble
from qwensft_operator.plan.views import parse_report
from qwensft_operator.render import Defaults, stage_job
from qwensft_operator.runtime.kinds import CHILDREN

from .builders import UID, later, look, scene


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


def test_a_job_that_somebody_holds_tells_so_and_since_when_its_pods_are_wanted() -> None:
    manifest = job_manifest(startTime="2026-01-02T12:01:00Z")
    assert (read(manifest).suspended, read(manifest).started_at) == (False, later(minutes=1))
    held = job_manifest() | {"spec": {"suspend": True}}
    assert (read(held).suspended, read(held).started_at) == (True, None)


def test_a_job_tells_its_queue_and_who_makes_its_pods() -> None:
    manifest = job_manifest() | {"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}}
    manifest["metadata"]["labels"] |= {"kueue.x-k8s.io/queue-name": "gpus", "kueue.x-k8s.io/priority-class": "night"}
    seen = read(CHILDREN[0].kept(manifest))
    assert (seen.managed_by, seen.queue, seen.queue_class) == ("kueue.x-k8s.io/multikueue", "gpus", "night")
    plain = read(job_manifest())
    assert (plain.managed_by, plain.queue, plain.queue_class) == ("", "", "")


def test_a_job_tells_what_it_was_made_from() -> None:
    manifest = stage_job(scene().job, Stage.TRAIN, 2, defaults=Defaults("trainer:1"))
    manifest["metadata"] |= job_manifest()["metadata"] | {"annotations": manifest["metadata"]["annotations"]}
    assert read(manifest).made_from == editable_digest(scene().job.spec, Stage.TRAIN)
    assert read(job_manifest()).made_from == ""


@pytest.mark.parametrize("digest", ["0123456789abcdef", "v0:0123456789abcdef", "v11:0123456789abcdef", ""])
def test_what_another_version_says_a_job_was_made_from_can_tell_of_no_edit(digest: str) -> None:
    manifest = job_manifest()
    manifest["metadata"]["annotations"] = {"qwensft.io/made-from": digest}
    assert read(manifest).made_from == ""


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


def running_pod(**ready: Any) -> dict[str, Any]:
    """A training pod that runs, as Kubernetes 1.37 writes it; keyword arguments change its Ready condition."""
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    conditions = {
        kind: {"type": kind, "status": "True", "observedGeneration": 1, "lastTransitionTime": "2026-01-02T12:00:00Z"}
        for kind in kinds
    }
    conditions["Ready"] |= ready
    return pod_manifest(
        {"running": {"startedAt": "2026-01-02T12:00:00Z"}}, phase="Running", conditions=list(conditions.values())
    )


def test_a_pod_whose_readiness_the_node_controller_takes_away_is_unreachable() -> None:
    # MarkPodsNotReady changes the status alone: no reason, and ContainersReady stays as the lost kubelet left it.
    lost = running_pod(status="False", lastTransitionTime="2026-01-02T12:05:00Z")
    assert pod_view(lost).unreachable
    assert pod_view(lost).deleted_at is None
    assert not pod_view(running_pod()).unreachable


def test_a_pod_that_is_evicted_from_a_lost_node_tells_by_when_it_has_to_be_gone() -> None:
    evicted = running_pod(status="False", lastTransitionTime="2026-01-02T12:05:00Z")
    # Deleted at 12:10; the deletionTimestamp is the end of the grace period.
    evicted["metadata"] |= {"deletionTimestamp": "2026-01-02T12:15:00Z", "deletionGracePeriodSeconds": 300}
    evicted["status"]["conditions"].append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": "2026-01-02T12:10:00Z",
        }
    )
    seen = pod_view(evicted)
    assert seen.unreachable
    assert (seen.disrupted, seen.deleted_at) == ("DeletionByTaintManager", later(minutes=15))


def test_a_pod_whose_containers_are_not_ready_is_merely_not_ready() -> None:
    starting = running_pod(status="False", reason="ContainersNotReady")
    starting["status"]["conditions"][3] |= {"status": "False", "reason": "ContainersNotReady"}
    assert not pod_view(starting).unreachable


def test_a_pod_that_a_readiness_gate_holds_back_is_on_a_node_that_answers() -> None:
    assert not pod_view(running_pod(status="False", reason="ReadinessGatesNotReady")).unreachable


def event(reason: str, message: str = "words", **times: Any) -> dict[str, Any]:
    given = {"firstTimestamp": "2026-01-02T12:00:00Z", "lastTimestamp": "2026-01-02T12:01:00Z"} | times
    return {"metadata": {"creationTimestamp": "2026-01-02T12:00:00Z"}, "reason": reason, "message": message, **given}


def test_a_pod_that_its_node_cannot_bring_up_tells_since_when() -> None:
    events = [
        event("Scheduled", "assigned", lastTimestamp="2026-01-02T12:09:00Z"),
        event("FailedMount", "older"),
        event(
            "FailedMount",
            "secret\n not found",
            firstTimestamp="2026-01-02T12:00:30Z",
            lastTimestamp="2026-01-02T12:02:00Z",
        ),
    ]
    assert pod_view(pod_manifest(), events).trouble == Trouble("FailedMount", "secret not found", later())
    assert pod_view(pod_manifest(), events[:1]).trouble is None


def test_events_of_the_newer_api_are_read_too() -> None:
    newer = event("FailedMount", firstTimestamp=None, lastTimestamp=None, eventTime="2026-01-02T12:00:07.000001Z")
    newer["series"] = {"count": 3, "lastObservedTime": "2026-01-02T12:03:00.000001Z"}
    assert pod_view(pod_manifest(), [event("FailedCreatePodSandBox"), newer]).trouble == Trouble(
        "FailedMount", "words", later(seconds=7, microseconds=1)
    )


def claim_manifest(phase: str = "Bound", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "models", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", **spec},
        "status": {"phase": phase},
    }


def test_a_claim_tells_what_it_can_serve() -> None:
    assert claim_view(claim_manifest()) == ClaimView("models", "Bound", frozenset({"ReadWriteOnce"}))
    assert claim_view(claim_manifest(volumeMode="Block")).block
    assert claim_view({"metadata": {"name": "models", "deletionTimestamp": "2026-01-02T12:00:00Z"}}).deleting


def test_a_claim_that_nobody_gives_a_volume_tells_why_though_the_event_is_a_normal_one() -> None:
    told = event("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
    events = [event("WaitForFirstConsumer", lastTimestamp="2026-01-02T12:09:00Z"), told]
    assert claim_view(claim_manifest("Pending"), events).trouble == Trouble("FailedBinding", told["message"], later())
    assert claim_view(claim_manifest("Pending"), events[:1]).trouble is None
    assert claim_view(claim_manifest("Bound"), events).trouble is None


def test_a_pod_that_a_node_refused_quotes_the_kubelet() -> None:
    seen = pod_view({"metadata": {"name": "p"}, "status": {"phase": "Failed", "reason": "OutOfcpu", "message": "no"}})
    assert (seen.phase, seen.rejected) == ("Failed", "OutOfcpu: no")


def test_a_pod_that_was_just_created_is_pending() -> None:
    assert pod_view({"metadata": {"name": "p"}}).phase == "Pending"


def test_a_report_is_read_whole() -> None:
    text = json.dumps({"outcome": "Failed", "reason": "DiskFull", "message": "m", "rank": 1, "metrics": {"step": 3}})
    seen = parse_report(text)
    assert seen is not None
    assert (seen.outcome, seen.reason, seen.message, seen.metrics) == ("Failed", "DiskFull", "m", {"step": 3})


@pytest.mark.parametrize("text", ["", "Segmentation fault", "[]", "1", "{}", '{"outcome": 1}', "[" * 4000, "\x00"])
def test_what_is_no_report_is_none(text: str) -> None:
    assert parse_report(text) is None


@pytest.mark.parametrize("value", ['"many"', "true", "NaN", "Infinity", "1e400", "9" * 400, "null", "[1]"])
def test_a_figure_that_is_no_finite_number_is_left_out(value: str) -> None:
    seen = parse_report(f'{{"outcome": "Succeeded", "metrics": {{"step": 3, "loss": {value}}}}}')
    assert seen is not None
    assert seen.metrics == {"step": 3}


def test_a_report_of_prepare_keeps_warnings_and_measures() -> None:
    metrics = {
        "samples": 3,
        "warnings": ["row 7:\nno answer", 5, "", "row 7: no answer", "x" * 400, *"abcdef"],
        "template": "qwen3",
        "model": {"layers": 2, "tied": True, "experts": None, "name": "Qwen", "heads": [1], "big": 1e300},
    }
    seen = parse_report(json.dumps({"outcome": "Succeeded", "metrics": metrics}))
    assert seen is not None
    assert seen.metrics == {"samples": 3}
    assert seen.warnings == ("row 7: no answer", "x" * 300, "a", "b", "c")
    assert seen.model == {"layers": 2, "tied": True, "experts": None}


@pytest.mark.parametrize("value", ['"text"', "7", "null", "{}", "[[]]", '[{"a": 1}]'])
def test_warnings_and_measures_of_the_wrong_kind_are_left_out(value: str) -> None:
    seen = parse_report(
        f'{{"outcome": "Succeeded", "metrics": {{"samples": 3, "warnings": {value}, "model": {value}}}}}'
    )
    assert seen is not None
    assert ((seen.metrics or {})["samples"], seen.warnings, seen.model or None) == (3, (), None)


def test_halves_of_characters_do_not_reach_the_status() -> None:
    seen = parse_report('{"outcome": "Failed", "reason": "\\ud83d", "message": "row \\ud83d of \\u00e4"}')
    assert seen is not None
    assert (seen.reason, seen.message) == ("?", "row ? of ä")


def test_a_message_of_any_length_fits_into_the_status() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "x" * 40000}
    seen = pod_view({"metadata": {"name": "p"}, "status": {"conditions": [condition]}})
    assert len(look(scene(child_fields={"ready": 0}, pods=(seen,))).message) < 5000


def test_a_pod_tells_which_other_containers_run_and_who_holds_it() -> None:
    manifest = pod_manifest({"terminated": {"exitCode": 0, "finishedAt": "2026-01-02T12:00:00Z"}}, phase="Running")
    others = {"proxy": {"running": {}}, "setup": {"terminated": {"exitCode": 0}}, "late": {"waiting": {}}}
    manifest["status"]["containerStatuses"] += [{"name": name, "state": state} for name, state in others.items()]
    manifest["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]
    seen = pod_view(manifest)
    assert (seen.exit_code, seen.sidecars) == (0, ("proxy",))
    assert seen.finalizers == ("batch.kubernetes.io/job-tracking",)


def test_the_finalizers_of_others_are_told_while_a_job_is_being_deleted() -> None:
    manifest = job_manifest()
    manifest["metadata"]["finalizers"] = ["foregroundDeletion", "acme.io/audit"]
    assert read(manifest).held_by == ()
    manifest["metadata"]["deletionTimestamp"] = "2026-01-02T12:00:00Z"
    assert read(manifest).held_by == ("acme.io/audit",)


def test_a_claim_has_what_it_was_expanded_to_or_what_it_asks_for() -> None:
    manifest: dict[str, Any] = {
        "metadata": {"name": "c"},
        "spec": {"resources": {"requests": {"storage": "5Gi"}}, "storageClassName": "fast"},
        "status": {"capacity": {"storage": "1Gi"}},
    }
    assert (claim_view(manifest).size, claim_view(manifest).storage_class) == ("5Gi", "fast")
    assert claim_view({"metadata": {"name": "c"}}).size == ""


def test_a_pod_tells_since_when_it_has_its_node() -> None:
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T12:00:00Z"}
    assert pod_view(pod_manifest(conditions=[placed])).scheduled_at == later()
    assert pod_view(pod_manifest(conditions=[placed | {"status": "False"}])).scheduled_at is None


def test_a_pod_that_is_deleted_by_force_is_told_from_one_that_may_save() -> None:
    for grace, forced in ((0, True), (300, False)):
        manifest = pod_manifest()
        manifest["metadata"] |= {"deletionTimestamp": "2026-01-02T12:00:00Z", "deletionGracePeriodSeconds": grace}
        assert pod_view(manifest).without_grace == forced


def test_the_scheduling_gates_of_a_pod_are_named() -> None:
    gated = {"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "x/a"}, {"name": "y/b"}]}}
    assert pod_view(gated).gates == ("x/a", "y/b")
    assert pod_view({"metadata": {"name": "p"}, "spec": {"schedulingGates": None}}).gates == ()
