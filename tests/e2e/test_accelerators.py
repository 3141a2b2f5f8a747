"""Jobs with accelerators, up to their first look for one: the local cluster offers four that do not exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from quickstart import follow
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE

from .runs import History, Job, Runs

pytestmark = pytest.mark.skipif(
    os.environ.get("CLUSTER", "local") != "local", reason="needs accelerators that a node promises and does not have"
)

RESOURCE = "nvidia.com/gpu"
MEMORY_LABEL = "nvidia.com/gpu.memory"
ABSENT = "amd.com/gpu"


def job(*, nodes: int, count: int, restarts: int, **worker: Any) -> Job:
    """The spec of a job with `count` accelerators on each of its nodes."""
    return {
        "training": {"precision": None},  # the default, bf16
        "distribution": {"nodes": nodes, "processesPerNode": None},
        "worker": {"accelerator": {"count": count, **worker}},
        "runPolicy": {"maxRestarts": restarts},
        "merge": {"enabled": False},
    }


def forget_nodes(runs: Runs) -> None:
    """Start the operator anew: it reads the nodes' labels every five minutes at most."""
    runs.kubectl.delete("pods", "--all", "-n", SYSTEM_NAMESPACE)
    runs.kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, "--timeout=100s")


def environment(pod: Job) -> dict[str, str]:
    """The container's variables that have plain values."""
    return {v["name"]: v["value"] for v in pod["spec"]["containers"][0]["env"] if "value" in v}


def assert_the_missing_accelerator_is_told(message: str, pods: list[Job]) -> None:
    """One of the pods is named, with its node and the places to look at."""
    named = [pod for pod in pods if pod["metadata"]["name"] in message]
    assert len(named) == 1, message
    assert f"on node {named[0]['spec']['nodeName']} " in message
    for place in ("nvidia-smi", "device plugin", "spec.worker.runtimeClassName", "spec.worker.image"):
        assert place in message


@pytest.fixture(scope="module")
def one_accelerator(runs: Runs) -> Iterator[History]:
    """One pod with one accelerator and one restart, while no node tells the accelerators' memory."""
    assert runs.kubectl.items("nodes", "-l", MEMORY_LABEL) == []
    forget_nodes(runs)
    # It waits beside the other, and is looked at in the end.
    runs.create("absent", job(nodes=1, count=1, restarts=0, resource=ABSENT))
    runs.create("one-gpu", job(nodes=1, count=1, restarts=1))
    yield runs.to_the_end("one-gpu")
    runs.kubectl.delete(follow.RESOURCE, "absent", "-n", runs.namespace)


def test_it_is_prepared_and_its_memory_estimated(one_accelerator: History) -> None:
    phases = [phase for phase in one_accelerator.phases if phase != "Pending"]
    assert phases[:3] == ["Preparing", "Training", "Restarting"]
    estimate = one_accelerator.last["status"]["estimate"]
    assert estimate["gpuMemoryGiB"] > 0
    assert "fits" not in estimate


def test_the_training_pod_asks_for_the_accelerator_and_is_scheduled(one_accelerator: History, runs: Runs) -> None:
    (pod,) = runs.pods("one-gpu", "train")
    container = pod["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "4Gi", RESOURCE: "1"}
    assert container["args"] == ["train"]
    assert pod["spec"]["nodeName"]
    variables = environment(pod)
    assert (variables["NNODES"], variables["NPROC_PER_NODE"]) == ("1", "1")


def test_without_the_accelerator_it_ends_with_what_it_lacks(one_accelerator: History, runs: Runs) -> None:
    for attempt in (1, 2):
        (pod,) = runs.pods("one-gpu", "train", attempt)
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
        assert "the pod sees none of the 1 accelerators" in runs.log(pod)


def test_it_is_tried_again_before_it_fails(one_accelerator: History, runs: Runs) -> None:
    restarting = next(s for s in one_accelerator.snapshots if s.get("status", {}).get("phase") == "Restarting")
    condition = follow.condition(restarting, "Succeeded")
    assert (condition["status"], condition["reason"]) == ("Unknown", "AcceleratorMissing")
    assert_the_missing_accelerator_is_told(condition["message"], runs.pods("one-gpu", "train"))

    status = one_accelerator.last["status"]
    assert (status["phase"], status["restarts"], status["stages"]["train"]["attempt"]) == ("Failed", 1, 2)
    condition = follow.condition(one_accelerator.last, "Succeeded")
    assert (condition["status"], condition["reason"]) == ("False", "AcceleratorMissing")
    assert_the_missing_accelerator_is_told(condition["message"], runs.pods("one-gpu", "train", attempt=2))
    assert "gave up after 1 restarts (spec.runPolicy.maxRestarts)" in condition["message"]


def test_what_no_node_has_is_unschedulable_in_the_schedulers_words(one_accelerator: History, runs: Runs) -> None:
    def unschedulable(job: Job) -> bool:
        return follow.condition(job, "Succeeded").get("reason") == "Unschedulable"

    waiting = runs.until("absent", unschedulable, "the scheduler's refusal")
    (pod,) = runs.pods("absent", "train")
    message = follow.condition(waiting, "Succeeded")["message"]
    assert f"pod {pod['metadata']['name']} (node rank 0) cannot be scheduled: " in message
    assert f"1 Insufficient {ABSENT}" in message


@dataclass(frozen=True)
class Gang:
    """A run's end, and its training pods as they were once scheduled: when one fails, Kubernetes deletes the other."""

    last: Job
    pods: list[Job]


@pytest.fixture(scope="module")
def four_accelerators(runs: Runs) -> Iterator[Gang]:
    """Two pods with two accelerators each and no restart, on nodes that tell the accelerators' memory."""
    pods: list[Job] = []

    def scheduled(_: Job) -> bool:
        pods[:] = runs.pods("four-gpus", "train")
        return len(pods) == 2 and all("nodeName" in pod["spec"] for pod in pods)

    runs.kubectl("label", "nodes", "--all", f"{MEMORY_LABEL}=81920")
    try:
        forget_nodes(runs)
        runs.create("four-gpus", job(nodes=2, count=2, restarts=0))
        runs.until("four-gpus", scheduled, "two scheduled pods")
        yield Gang(runs.to_the_end("four-gpus").last, pods)
    finally:
        runs.kubectl("label", "nodes", "--all", f"{MEMORY_LABEL}-")


def test_the_estimate_knows_the_labelled_memory(four_accelerators: Gang) -> None:
    estimate = four_accelerators.last["status"]["estimate"]
    assert (estimate["acceleratorMemoryGiB"], estimate["fits"]) == (80, True)
    assert 0 < estimate["gpuMemoryGiB"] < 80


def test_each_pod_of_a_gang_asks_for_its_accelerators_and_knows_its_place(four_accelerators: Gang) -> None:
    for rank, pod in enumerate(four_accelerators.pods):
        container = pod["spec"]["containers"][0]
        assert container["resources"]["limits"][RESOURCE] == "2"
        variables = environment(pod)
        assert (variables["NNODES"], variables["NPROC_PER_NODE"]) == ("2", "2")
        assert variables["MASTER_ADDR"] == "four-gpus-train-1-0.four-gpus-train"
        (place,) = (variable for variable in container["env"] if variable["name"] == "NODE_RANK")
        assert "batch.kubernetes.io/job-completion-index" in place["valueFrom"]["fieldRef"]["fieldPath"]
        assert pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] == str(rank)


def test_a_gang_fails_for_the_missing_accelerators_and_not_for_the_pod_that_was_stopped(
    four_accelerators: Gang,
) -> None:
    condition = follow.condition(four_accelerators.last, "Succeeded")
    assert (condition["status"], condition["reason"]) == ("False", "AcceleratorMissing")
    assert "sees none of the 2 accelerators" in condition["message"]
    assert_the_missing_accelerator_is_told(condition["message"], four_accelerators.pods)
    assert four_accelerators.last["status"]["phase"] == "Failed"
