"""The page on why a run stands where it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import ANNOTATION_ROWS, QwenSFTJob, parse_job
from qwensft.explain import explain

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
UID, POD_UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "pod-uid"


def job(status: dict[str, Any] | None = None, **changes: Any) -> QwenSFTJob:
    metadata = {"name": "demo", "namespace": "team", "uid": UID, "generation": 1, **changes.get("metadata", {})}
    spec = {
        "model": changes.get("model", {"name": "Qwen/Qwen3-8B"}),
        "datasets": [{"name": "a", "format": "alpaca", "source": {"configMap": {"name": "a", "key": "a.json"}}}],
        "storage": {"volume": {"claimTemplate": {"size": "10Gi"}}},
        "runPolicy": changes.get("policy", {}),
    }
    document = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": metadata, "spec": spec}
    return parse_job(document | {"status": status or {}})


def condition(type_: str, status: str, reason: str, message: str) -> dict[str, str]:
    since = "2026-11-30T11:00:00Z"
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def pod(name: str, stage: str = "train", attempt: int = 1, rank: int = 0, **status: Any) -> dict[str, Any]:
    labels = {
        "qwensft.io/stage": stage,
        "qwensft.io/attempt": str(attempt),
        "batch.kubernetes.io/job-completion-index": str(rank),
    }
    return {"metadata": {"name": name, "uid": POD_UID, "labels": labels}, "spec": {}, "status": status}


def event(uid: str, type_: str, reason: str, minutes: int, **more: Any) -> dict[str, Any]:
    about = {"uid": uid, "name": "demo" if uid == UID else "demo-train-1-0"}
    time = f"2026-11-30T11:{60 - minutes:02d}:00Z"
    return {"metadata": {}, "involvedObject": about, "type": type_, "reason": reason, "lastTimestamp": time, **more}


def failed() -> dict[str, Any]:
    return {
        "observedGeneration": 1,
        "phase": "Failed",
        "conditions": [
            condition("Succeeded", "False", "InvalidDataset", "dataset a, a.json, row 4: output is missing")
        ],
        "stages": {"prepare": {"attempt": 2, "restarts": 1, "reason": "InvalidDataset"}},
    }


def test_a_run_that_nobody_has_seen_asks_for_the_operator() -> None:
    page = explain(job(), now=NOW)
    assert (page.phase, page.reason) == ("Pending", "")
    assert "the operator has not seen this run yet" in page.cause
    assert "watches this namespace" in page.next_step


def test_an_edit_that_nobody_has_seen_is_told_as_such() -> None:
    page = explain(job(failed(), metadata={"generation": 2}), now=NOW)
    assert page.next_step.startswith("the operator has not seen this edit yet")


def test_a_failed_run_has_the_operators_sentence_and_what_can_be_edited() -> None:
    page = explain(job(failed()), now=NOW)
    assert page.cause == "dataset a, a.json, row 4: output is missing"
    assert "change spec.runPolicy.retry afterwards" in page.next_step
    assert page.stages == (
        "prepare  failed           attempt 2, 1 restart, last failure: InvalidDataset",
        "train    not begun",
        "merge    not begun",
    )
    assert str(page).startswith("demo in namespace team: Failed (InvalidDataset)\n  dataset a, a.json, row 4:")


def test_a_held_run_says_who_holds_it() -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Suspended",
        "conditions": [
            condition("Succeeded", "Unknown", "Suspended", "held"),
            condition("Suspended", "True", "Suspended", "spec.runPolicy.suspend is true; set it to false to go on"),
        ],
    }
    held = explain(job(status, policy={"suspend": True}), now=NOW)
    assert held.next_step == "set spec.runPolicy.suspend to false to let it go on"
    assert held.cause.startswith("spec.runPolicy.suspend is true")
    waits = explain(job(status, policy={"suspend": True}, metadata={"annotations": {ANNOTATION_ROWS: "0f"}}), now=NOW)
    assert waits.next_step.startswith("its rows are on their way")


def test_a_queue_is_named() -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Suspended",
        "conditions": [condition("Suspended", "True", "Queued", "LocalQueue gpus: position 3")],
    }
    page = explain(job(status, policy={"queueName": "gpus"}), now=NOW)
    assert page.next_step == "wait for LocalQueue gpus to admit it; it goes on by itself"


BEGUN = {"name": "base", "uid": "u", "claimName": "c", "path": "p", "digest": "d"}


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ({"source": {"run": {"name": "first"}}}, {}),
        ({"adapter": {"run": {"name": "first"}}}, {}),
        ({"source": {"run": {"name": "base"}}, "adapter": {"run": {"name": "first"}}}, {"sourceRun": BEGUN}),
    ],
    ids=["merged model", "adapter", "adapter, after the base"],
)
def test_the_run_that_is_waited_for_is_named(model: dict[str, Any], known: dict[str, Any]) -> None:
    status = known | {
        "observedGeneration": 1,
        "phase": "Pending",
        "conditions": [condition("Succeeded", "Unknown", "WaitingForSourceRun", "waiting until QwenSFTJob first has")],
    }
    waiting = job(status, model={"name": "Qwen/Qwen3-8B"} | model)
    assert explain(waiting, now=NOW).next_step == (
        "wait for run first (kubectl get qsft first); this one goes on by itself"
    )


def test_a_back_off_says_until_when() -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Restarting",
        "conditions": [condition("Succeeded", "Unknown", "OutOfMemory", "rank 0 ran out of memory")],
        "stages": {"train": {"attempt": 1, "reason": "OutOfMemory", "retryTime": "2026-11-30T12:00:20Z"}},
    }
    assert explain(job(status), now=NOW).next_step == "wait: the next attempt starts at 12:00:20 UTC"


def test_a_result_is_named_by_path_and_claim() -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "conditions": [condition("Succeeded", "True", "Completed", "all stages are done")],
        "outputs": {"merged": {"claimName": "demo-workspace", "path": "demo-0f1e2d3c/merged"}},
        "stages": {"prepare": {"attempt": 1, "completionTime": "2026-11-30T10:00:00Z"}},
    }
    page = explain(job(status), now=NOW)
    assert page.next_step == "use the result: demo-0f1e2d3c/merged on claim demo-workspace"
    assert page.stages[0] == "prepare  done 2h ago      attempt 1"


def test_pods_of_the_last_attempt_are_shown_those_in_trouble_first() -> None:
    unscheduled = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes:\n no GPU"}
    ]
    pods = [
        pod("demo-train-1-0", phase="Failed"),
        pod("demo-train-2-0", attempt=2, phase="Running"),
        pod("demo-train-2-1", attempt=2, rank=1, phase="Pending", conditions=unscheduled),
        {"metadata": {"name": "someone-else"}, "status": {}},
    ]
    assert explain(job(failed()), pods=pods, now=NOW).pods == (
        "demo-train-2-1                 Pending; Unschedulable: 0/3 nodes: no GPU",
        "demo-train-2-0                 Running",
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            "trainer: ImagePullBackOff: no such image",
        ),
        ({"waiting": {"reason": "PodInitializing"}}, "Pending"),
        ({"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "trainer: OOMKilled, exit code 137"),
        ({"terminated": {"reason": "Completed", "exitCode": 0}}, "Pending"),
    ],
)
def test_a_container_says_what_it_waits_for_or_how_it_ended(state: dict[str, Any], words: str) -> None:
    shown = explain(
        job(), pods=[pod("p", phase="Pending", containerStatuses=[{"name": "trainer", "state": state}])], now=NOW
    )
    assert shown.pods[0].endswith(words)


def test_a_large_gang_is_not_shown_whole() -> None:
    pods = [pod(f"demo-train-1-{rank}", rank=rank, phase="Running") for rank in range(40)]
    assert explain(job(), pods=pods, now=NOW).pods[-1] == "and 32 more"


def test_events_are_those_of_the_run_and_warnings_of_its_pods() -> None:
    events = [
        event(POD_UID, "Warning", "FailedMount", 1, message="no\nvolume", count=5),
        event(UID, "Normal", "Prepared", 3, message="12 rows"),
        event(POD_UID, "Normal", "Pulled", 2, message="image"),
        event("another", "Warning", "Failed", 1, message="not ours"),
    ]
    shown = explain(job(), pods=[pod("demo-train-1-0", phase="Pending")], events=events, now=NOW).events
    assert shown == (
        "3m ago   Normal Prepared: 12 rows",
        "60s ago  Warning FailedMount (x5) demo-train-1-0: no volume",
    )


def test_an_event_without_any_time_comes_first() -> None:
    events = [event(UID, "Normal", "Late", 1), event(UID, "Normal", "Timeless", 1) | {"lastTimestamp": None}]
    assert [line.split()[-1] for line in explain(job(), events=events, now=NOW).events] == ["Timeless:", "Late:"]
