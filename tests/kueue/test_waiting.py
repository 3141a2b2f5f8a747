"""What a run in a queue of Kueue says, and what becomes of it when queue, user or Kueue itself act on it."""

from __future__ import annotations

import json

import pytest
from quickstart import follow
from tests.chaos.acts import attempts, step_of
from tests.e2e.runs import Job, Runs

from .installation import MANAGER, eventually
from .installation import NAMESPACE as SYSTEM
from .queues import CLUSTER_QUEUE, LOW, PRIORITY, QUEUE, Competitor, local_queue, multikueue, workloads
from .test_training import queued

SHORT: Job = {"training": {"maxSteps": 6, "saveSteps": 1000}, "merge": {"enabled": False}}
LONG: Job = {"training": {"maxSteps": 400, "saveSteps": 10}, "merge": {"enabled": False}}
UNAVAILABLE = "QueueUnavailable"
WAITS: Job = {"runPolicy": {"queueName": QUEUE}}


@pytest.fixture
def occupied(competitor: Competitor) -> Competitor:
    """Somebody else has the quota."""
    competitor.come("occupant")
    eventually(lambda: competitor.is_in("occupant"), "the occupant's pod")
    return competitor


def test_the_higher_class_waits_ahead_and_deleted_runs_leave_no_workload(occupied: Competitor, runs: Runs) -> None:
    runs.create("classless", SHORT | WAITS)
    runs.until("classless", lambda job: "position 1" in queued(job), "the first place")
    runs.create("low", SHORT | WAITS, {PRIORITY: LOW})
    runs.until("low", lambda job: "position 1" in queued(job), "the first place")
    runs.until("classless", lambda job: "position 2" in queued(job), "the second place")
    runs.kubectl.delete(follow.RESOURCE, "low", "classless", "-n", runs.namespace)
    for name in ("low", "classless"):
        eventually(lambda: not workloads(runs.kubectl, runs.namespace, f"{name}-train-1"), "no Workload")  # noqa: B023
    assert occupied.is_in("occupant")


def test_a_run_that_is_taken_out_of_its_queue_says_how_it_gets_back(occupied: Competitor, runs: Runs) -> None:
    runs.create("out", SHORT | WAITS)
    runs.until("out", lambda job: "position 1" in queued(job), "its position")
    (workload,) = workloads(runs.kubectl, runs.namespace, "out-train-1")
    name = workload["metadata"]["name"]
    activate(runs, name, False)
    said = queued(runs.until("out", lambda job: queued(job, UNAVAILABLE), "what became of it"), UNAVAILABLE)
    assert f'kubectl patch workload {name} -n {runs.namespace} --type merge -p \'{{"spec":{{"active":true}}}}\'' in said
    activate(runs, name, True)
    runs.until("out", lambda job: "position 1" in queued(job), "its position")
    assert occupied.is_in("occupant")


def test_a_queue_that_does_not_exist_is_named_and_an_edit_leads_out(runs: Runs, competitor: Competitor) -> None:
    runs.create("nowhere", SHORT | {"runPolicy": {"queueName": "nope"}})
    said = queued(runs.until("nowhere", lambda job: queued(job, UNAVAILABLE), "the missing queue"), UNAVAILABLE)
    assert "LocalQueue nope doesn't exist" in said
    assert f"spec.runPolicy.queueName (kubectl get localqueues -n {runs.namespace})" in said
    runs.patch("nowhere", WAITS)
    job = runs.to_the_end("nowhere").last
    assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, job)
    assert "restarts" not in job["status"]


def test_a_queue_that_is_made_later_takes_the_run_up(runs: Runs, competitor: Competitor) -> None:
    runs.create("early", SHORT | {"runPolicy": {"queueName": "later"}})
    runs.until("early", lambda job: "later doesn't exist" in queued(job, UNAVAILABLE), "the missing queue")
    runs.kubectl.apply(local_queue(runs.namespace, "later"))
    job = runs.to_the_end("early").last
    assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, job)
    assert attempts(job)["train"] == 1


def test_a_class_that_does_not_exist_is_named(runs: Runs, competitor: Competitor) -> None:
    runs.create("mistyped", SHORT | WAITS, {PRIORITY: "qwensft-nobodys"})
    said = queued(runs.until("mistyped", lambda job: "qwensft-nobodys" in queued(job), "the missing class"))
    assert "kubectl get workloadpriorityclasses" in said


def test_a_queue_that_sends_jobs_to_other_clusters_says_so(runs: Runs, competitor: Competitor) -> None:
    runs.kubectl.apply(*multikueue(runs.namespace, "elsewhere"))
    runs.create("sent", SHORT | {"runPolicy": {"queueName": "elsewhere"}})
    said = queued(runs.until("sent", lambda job: queued(job, UNAVAILABLE), "where it would train"), UNAVAILABLE)
    assert "handed to MultiKueue" in said
    runs.patch("sent", WAITS)
    runs.until("sent", lambda job: step_of(job) > 0 or follow.ended(job), "a training here")


def test_a_drained_queue_stops_the_training_which_goes_on_when_it_opens(runs: Runs, competitor: Competitor) -> None:
    runs.create("drained", LONG | WAITS)
    runs.until("drained", lambda job: step_of(job) >= 12, "step 12")
    stop(runs, "HoldAndDrain")
    runs.until("drained", lambda job: CLUSTER_QUEUE in queued(job, UNAVAILABLE), "the stopped queue")
    stop(runs, "None")
    again = runs.until("drained", lambda job: job["status"]["phase"] == "Training" and step_of(job) >= 20, "step 20")
    assert attempts(again)["train"] == 1
    assert "restarts" not in again["status"]

    runs.patch("drained", {"runPolicy": {"queueName": QUEUE, "suspend": True}})
    runs.until("drained", lambda job: follow.condition(job, "Suspended").get("reason") == "Suspended", "a user's hold")
    eventually(lambda: not workloads(runs.kubectl, runs.namespace), "the Workload's end")
    queue = runs.kubectl.get("clusterqueue", CLUSTER_QUEUE)
    assert queue["status"]["reservingWorkloads"] == 0, "its quota is given back"
    runs.patch("drained", {"runPolicy": {"queueName": QUEUE, "suspend": False}})
    resumed = runs.until("drained", lambda job: attempts(job)["train"] == 2 and step_of(job) >= 24, "step 24")
    assert "restarts" not in resumed["status"]


def test_a_run_whose_jobs_kueue_refuses_while_it_is_away_goes_on_when_it_is_back(
    runs: Runs, competitor: Competitor
) -> None:
    scale(runs, 0)
    try:
        runs.create("refused", SHORT | WAITS)
        job = runs.until("refused", lambda job: headline(job)["reason"] == "WebhookUnavailable", "who refuses its Job")
        assert "Mend service kueue-webhook-service in namespace kueue-system" in headline(job)["message"]
    finally:
        scale(runs, 1)
    job = runs.to_the_end("refused").last
    assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, job)
    assert "restarts" not in job["status"]


def test_where_a_queue_takes_all_jobs_prepare_waits_too_and_says_so(runs: Runs, occupied: Competitor) -> None:
    """A LocalQueue named default takes up every Job of its namespace that names none."""
    runs.kubectl.apply(local_queue(runs.namespace, "default"))
    try:
        runs.create("swept", SHORT)
        said = queued(runs.until("swept", lambda job: "position" in queued(job), "its position"))
        assert "Job swept-prepare-1 waits in the queue default" in said
        occupied.go("occupant")
        job = runs.to_the_end("swept").last
        assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, job)
    finally:
        runs.kubectl.delete("localqueue", "default", "-n", runs.namespace)


def test_in_a_namespace_that_kueue_leaves_out_a_run_is_held_by_its_own_queue_name_alone(unmanaged: Runs) -> None:
    """Kueue's webhook leaves Jobs there alone, a LocalQueue default or not; nobody lets go what names a queue."""
    unmanaged.create("forgotten", SHORT | {"runPolicy": {"queueName": "default"}})
    said = queued(unmanaged.until("forgotten", queued, "who holds its Job"))
    assert "Job forgotten-train-1 is held for the queue default, and Kueue has not taken it up yet" in said
    assert "does Kueue's configuration include this namespace" in said
    unmanaged.create("free", SHORT)
    job = unmanaged.to_the_end("free").last
    assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(unmanaged.kubectl, job)


def headline(job: Job) -> Job:
    """Where a run stands, and why."""
    return follow.condition(job, "Succeeded") or {"reason": ""}


def activate(runs: Runs, workload: str, active: bool) -> None:
    """As `kueuectl stop` and `resume` do."""
    patch = json.dumps({"spec": {"active": active}})
    runs.kubectl("patch", "workload", workload, "-n", runs.namespace, "--type=merge", "-p", patch)


def stop(runs: Runs, policy: str) -> None:
    runs.kubectl(
        "patch", "clusterqueue", CLUSTER_QUEUE, "--type=merge", "-p", f'{{"spec":{{"stopPolicy":"{policy}"}}}}'
    )


def scale(runs: Runs, replicas: int) -> None:
    runs.kubectl("scale", MANAGER, "-n", SYSTEM, f"--replicas={replicas}")
    runs.kubectl("rollout", "status", MANAGER, "-n", SYSTEM, "--timeout=120s", timeout=150)
