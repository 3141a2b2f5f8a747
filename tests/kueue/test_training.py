"""A training that waits in a queue of Kueue, is preempted and goes on ends with the same bits as one left alone."""

from __future__ import annotations

import re

import pytest
from quickstart import follow
from tests.chaos.acts import SAVED_EVERY, TRAINING, attempts, is_up, step_of, succeeded
from tests.e2e.runs import Job, Runs

from .installation import eventually
from .queues import LOW, PRIORITY, QUEUE, Competitor, workloads

# Dropout and shuffled rows: a training that goes on with other random numbers, or other rows, ends with other bits.
SPEC: Job = {
    "training": TRAINING | {"gradientAccumulationSteps": 2},
    "tuning": {"lora": {"dropout": 0.2}},
    "merge": {"enabled": True},
}
PREEMPTED_AT = 40


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> str:
    """The adapter's digest of a run that nobody holds up."""
    runs.create("undisturbed", SPEC)
    job = succeeded(runs, "undisturbed")
    digest = digest_of(runs, job)
    runs.kubectl.delete(follow.RESOURCE, "undisturbed", "-n", runs.namespace)
    return digest


def test_a_run_waits_is_admitted_preempted_and_goes_on_from_its_checkpoint(
    undisturbed: str, runs: Runs, competitor: Competitor
) -> None:
    competitor.come("occupant")
    eventually(lambda: competitor.is_in("occupant"), "the occupant's pod")
    name = "queued"
    runs.create(name, SPEC | {"runPolicy": {"queueName": QUEUE}}, {PRIORITY: LOW})

    waiting = runs.until(name, lambda job: "position 1" in queued(job), "its position in the queue")
    assert waiting["status"]["stages"]["prepare"]["completionTime"], "the data is ready before the turn comes"
    assert waiting["status"]["phase"] == "Suspended"
    assert f"Job {name}-train-1 waits in the queue {QUEUE}" in queued(waiting)
    assert "insufficient unused quota for cpu" in queued(waiting)
    assert [one["spec"]["priority"] for one in workloads(runs.kubectl, runs.namespace, f"{name}-train-1")] == [10]
    assert runs.pods(name, "train") == []

    competitor.go("occupant")
    runs.until(name, lambda job: step_of(job) >= PREEMPTED_AT and step_of(job) % SAVED_EVERY, f"step {PREEMPTED_AT}")
    first = {pod["metadata"]["uid"] for pod in runs.pods(name, "train") if is_up(pod)}
    assert len(first) == 2
    competitor.come("urgent")
    preempted = runs.until(name, queued, "its preemption")
    stopped_at = step_of(preempted)
    preempted = runs.until(name, lambda job: "reempt" in queued(job), "why it stopped")
    assert attempts(preempted)["train"] == 1
    assert "restarts" not in preempted["status"]
    assert "uncounted" in queued(preempted)
    eventually(lambda: competitor.is_in("urgent"), "the urgent pod")

    competitor.go("urgent")
    again = runs.until(name, lambda job: job["status"]["phase"] == "Training" and step_of(job) > stopped_at, "more")
    pods = runs.pods(name, "train")
    assert first.isdisjoint(pod["metadata"]["uid"] for pod in pods)
    resumed = re.search(r"resumes from \S*checkpoint-(\d+)", runs.log(pods[0]))
    assert resumed, runs.log(pods[0])
    assert int(resumed[1]) >= PREEMPTED_AT - PREEMPTED_AT % SAVED_EVERY
    assert attempts(again)["train"] == 1

    ended = succeeded(runs, name)
    assert attempts(ended)["train"] == 1
    assert "restarts" not in ended["status"]
    assert digest_of(runs, ended) == undisturbed
    queues = {one["metadata"]["name"]: one["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")
              for one in runs.children("jobs", name)}  # fmt: skip
    assert queues == {f"{name}-prepare-1": None, f"{name}-train-1": QUEUE, f"{name}-merge-1": None}


def queued(job: Job, reason: str = "Queued") -> str:
    """What the run says of the queue that holds it, "" when none does for this reason."""
    condition = follow.condition(job, "Suspended")
    held = condition.get("status") == "True" and condition.get("reason") == reason
    return str(condition["message"]) if held else ""


def digest_of(runs: Runs, job: Job) -> str:
    """The digest of a run's adapter."""
    adapter = job["status"]["outputs"]["adapter"]["path"]
    return runs.script("weights_digest.py", job, f"/workspace/{adapter}").splitlines()[-1]
