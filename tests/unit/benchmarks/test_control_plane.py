"""The control plane benchmark's statistics, goals and tables, how it reads the audit log, and what its floor writes."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from benchmarks.control_plane import audit, figures, writes

MACHINE = {"commit": "0123456", "cpus": 2, "model": "a CPU", "loadBefore": 0.1, "loadAfter": 2.0}


def line(verb: str = "get", resource: str = "pods", **changes: Any) -> str:
    reference = {"resource": resource, "namespace": "bench", "name": "run-1"} | changes.pop("objectRef", {})
    entry = {
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/bench/{resource}/run-1",
        "verb": verb,
        "user": {"username": "operator"},
        "objectRef": reference,
        "responseStatus": {"code": 200},
        "stageTimestamp": "2026-01-01T00:00:01.5Z",
    }
    return json.dumps(entry | changes)


def request(verb: str = "get", resource: str = "pods", **changes: Any) -> audit.Request:
    found = audit.Request(
        user="operator",
        verb=verb,
        resource=resource,
        namespace="space0",
        name="run0",
        uri="/",
        code=200,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        body=None,
    )
    return replace(found, **changes)


def load(name: str, speed: float, count: int = 100, rate: float | None = None, **changes: Any) -> dict[str, Any]:
    """Runs that come at once and are told one after the other."""
    created = {str(number): 0.0 for number in range(count)}
    told = {str(number): (number + 1) / speed for number in range(count)}
    cpu = {"own": count * 0.01, "apiserver": count * 0.02, "etcd": count * 0.01}
    return figures.of_load(name, count, rate, created=created, told=told, cpu=cpu, made=[]) | changes


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert figures.percentile(range(100, 0, -1), share) == value
    assert figures.percentile([7.0], share) == 7.0


def test_a_load_is_as_fast_as_its_last_run() -> None:
    found = load("operator", 20.0)
    assert found["runsPerSecond"] == pytest.approx(20.0)
    assert (found["p50"], found["p99"]) == (pytest.approx(2.5), pytest.approx(4.95))
    assert found["cpuMsPerRun"] == pytest.approx(40.0)


def test_runs_that_were_never_told_of_are_said_to_be_missing() -> None:
    found = figures.of_load(
        "trainer", 2, None, created={"a": 0.0, "b": 0.0}, told={"a": 1.0}, cpu={"apiserver": 1.0, "etcd": 1.0}, made=[]
    )
    assert found["told"] == 1
    assert "trainer (1 never told)" in figures.report({"machine": MACHINE, "loads": [found]})


def test_the_requests_of_a_load_are_those_of_a_run() -> None:
    made = [request("get"), request("list"), request("create"), request("watch")]
    found = figures.of_load(
        "operator",
        2,
        None,
        created={"a": 0.0, "b": 0.0},
        told={"a": 1.0},
        cpu={"apiserver": 1.0, "etcd": 1.0},
        made=made,
    )
    assert (found["readsPerRun"], found["writesPerRun"]) == (1.0, 0.5)


def goal(found: dict[str, Any], title: str) -> figures.Goal:
    return next(goal for goal in figures.goals(found) if goal.title == title)


def test_a_burst_is_judged_beside_the_floor_and_trainer_of_the_same_burst() -> None:
    loads = [load(name, speed) for name, speed in (("floor B", 50.0), ("operator", 45.0), ("trainer", 30.0))]
    loads.append(load("floor B", 10.0, count=500))
    assert goal({"loads": loads}, "burst of 100: runs/s, share of floor B").met
    trainer = goal({"loads": loads}, "burst of 100: runs/s, times Trainer's")
    assert not trainer.met
    assert trainer.line().endswith("| ≥ 1.70 | 1.50 | **not met**, by a factor of 1.13 |")


def test_the_best_round_counts() -> None:
    loads = [load("floor B", 50.0), load("operator", 20.0), load("operator", 50.0)]
    assert goal({"loads": loads}, "burst of 100: runs/s, share of floor B").measured == pytest.approx(1.0)


def test_a_run_may_cost_no_more_among_many() -> None:
    loads = [load("operator", 50.0), load("operator", 50.0, count=2000, cpuMsPerRun=60.0)]
    flat = goal({"loads": loads}, "CPU time of a run at 2,000, times that at 100")
    assert flat.measured == pytest.approx(1.5)
    assert flat.met is False


def test_what_was_not_measured_is_not_judged() -> None:
    assert {goal.met for goal in figures.goals({"loads": []})} == {None}
    assert goal({}, "hour of 2 pods: reads").line() == "| hour of 2 pods: reads | ≤ 150 | – | not measured |"


def test_a_goal_of_none_at_all_has_no_factor() -> None:
    found = {"finished": {"count": 50, "requests": 3, "residentMB": 100.0}}
    assert goal(found, "50 finished runs: requests in the window").line().endswith("| ≤ 0 | 3 | **not met** |")


def test_the_middle_of_a_training_counts_for_its_hour() -> None:
    begun, steady, ended = ({"reads": reads, "writes": 2} for reads in (10, 6, 4))
    assert figures.hour(begun=begun, steady=steady, ended=ended, minutes=3) == {"reads": 134, "writes": 44}


def test_every_scene_that_was_played_has_its_line() -> None:
    found = {
        "machine": MACHINE,
        "loads": [load("floor B", 50.0), load("operator", 45.0, restMB={"operator": 60.0}, peakMB={"operator": 80.0})],
        "ends": [{"name": "operator", "count": 5, "p50": 0.1, "p99": 0.2}],
        "one": {"reads": 4.0, "writes": 5.0},
        "gang": {"pods": 256, "podLists": 5, "eventLists": 4, "writes": 9},
        "restart": {"count": 5000, "seconds": 9.5, "cpuSeconds": 8.0, "reads": 12345, "peakMB": 99.0},
    }
    told = figures.report(found)
    assert "| 100 at once | operator | 45.0 | 0.90 |" in told
    assert "| 60, 80 |" in told
    assert "| operator | 5 | 0.10 | 0.20 |" in told
    assert "| a gang of 256 pods, from its Job to its end | 5 lists of pods, 4 of events, 9 writes |" in told
    assert "| restart with 5,000 live runs | converged after 9.5 s, 8.0 CPU s, 12,345 reads, peak 99 MB |" in told
    assert "live runs | " not in told.replace("5,000 live runs", "")


def test_a_subresource_is_told_with_its_resource() -> None:
    (found,) = audit.requests([line("patch", "qwensftjobs", objectRef={"subresource": "status"})])
    assert audit.by_verb([found, found]) == {"patch qwensftjobs/status": 2}
    assert audit.count([found], audit.WRITES) == 1


def test_a_watch_counts_once_and_what_has_no_resource_does_not() -> None:
    lines = [
        line("watch", stage="ResponseStarted"),
        line("watch"),
        line("get", objectRef={"resource": ""}),
    ]
    assert [found.verb for found in audit.requests(lines)] == ["watch"]


def test_requests_are_parted_by_time() -> None:
    times = [datetime(2026, 1, 1, minute=minute, tzinfo=UTC) for minute in range(4)]
    found = [request(at=time) for time in times]
    parts = audit.split(found, at=[times[1], times[3]])
    assert [len(part) for part in parts] == [1, 2, 1]


RUN: dict[str, Any] = {
    "apiVersion": "qwensft.io/v1alpha1",
    "kind": "QwenSFTJob",
    "metadata": {"name": "run0", "namespace": "space0", "uid": "1-2-3", "resourceVersion": "7"},
    "spec": {"model": {"name": "Qwen/Qwen3-0.6B"}},
}
VALUES = {writes.NAME: "run-9", writes.NAMESPACE: "bench", writes.UID: "4-5-6", writes.VERSION: "99"}
COLLECTION = "/apis/qwensft.io/v1alpha1/namespaces/space0/qwensftjobs"


def made() -> list[audit.Request]:
    owner = {"metadata": {"name": "run0-prepare-1", "ownerReferences": [{"uid": "1-2-3"}]}}
    status = {"metadata": {"resourceVersion": "7"}, "status": {"phase": "Preparing"}}
    return [
        request("get", "persistentvolumeclaims", code=404),
        request("create", "persistentvolumeclaims", uri="/api/v1/namespaces/space0/persistentvolumeclaims", body=owner),
        request("create", "jobs", uri="/apis/batch/v1/namespaces/space0/jobs?fieldManager=us", body=owner),
        request("create", "events", uri="/api/v1/namespaces/space0/events", body=owner, code=409),
        request("patch", "qwensftjobs/status", uri=f"{COLLECTION}/run0/status", body=status),
    ]


def test_the_floor_repeats_the_writes_that_were_accepted_in_their_order() -> None:
    recipe = writes.recipe(made(), RUN, COLLECTION)
    assert [(write.method, write.of_run) for write in recipe] == [
        ("POST", True),
        ("POST", False),
        ("POST", False),
        ("PATCH", True),
    ]
    assert json.loads(recipe[0].filled(VALUES)[1]) == RUN | {"metadata": {"name": "run-9"}}


def test_a_repeated_write_is_about_the_other_run_alone() -> None:
    filled = [write.filled(VALUES) for write in writes.recipe(made(), RUN, COLLECTION)]
    assert filled[2][0] == "/apis/batch/v1/namespaces/bench/jobs?fieldManager=us"
    assert json.loads(filled[2][1])["metadata"] == {"name": "run-9-prepare-1", "ownerReferences": [{"uid": "4-5-6"}]}
    assert filled[3][0].endswith("/namespaces/bench/qwensftjobs/run-9/status")
    assert json.loads(filled[3][1])["metadata"] == {"resourceVersion": "99"}
    assert not [text for text in filled if "run0" in str(text) or "space0" in str(text) or "1-2-3" in str(text)]


def test_the_lower_floor_creates_objects_only() -> None:
    lower = writes.objects_only(writes.recipe(made(), RUN, COLLECTION))
    assert [write.path.partition("?")[0].rpartition("/")[2] for write in lower] == ["persistentvolumeclaims", "jobs"]


def test_a_write_that_cannot_be_repeated_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot repeat: update /x"):
        writes.recipe([request("update", uri="/x", body={})], RUN, COLLECTION)
