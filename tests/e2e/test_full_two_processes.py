"""Full fine-tuning on one node with two processes; without an adapter, the merge step exports and verifies."""

from __future__ import annotations

import pytest
from quickstart import follow

from .runs import History, Runs

NAME = "full"
STEPS = 6


@pytest.fixture(scope="module")
def history(runs: Runs) -> History:
    runs.create(
        NAME,
        {
            "tuning": {"method": "full", "lora": None},
            "training": {"maxSteps": STEPS, "learningRate": 1e-3, "perDeviceTrainBatchSize": 1},
            "distribution": {"nodes": 1, "processesPerNode": 2},
        },
    )
    history = runs.to_the_end(NAME)
    assert follow.condition(history.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, history.last)
    return history


def test_one_pod_ran_two_processes_in_one_group(history: History, runs: Runs) -> None:
    (pod,) = runs.pods(NAME, "train")
    log = runs.log(pod)
    assert "torchrun --nproc_per_node 2 --nnodes 1 --node_rank 0" in log
    for rank in (0, 1):
        assert f"Process rank: {rank}, world size: 2" in log


def test_the_outputs_are_a_trained_and_an_exported_model_and_no_adapter(history: History) -> None:
    outputs = history.last["status"]["outputs"]
    assert set(outputs) == {"model", "merged", "report"}
    for output in outputs.values():
        assert output["sizeBytes"] > 0
        assert output["digest"].startswith("sha256:")


def test_all_steps_were_trained(history: History) -> None:
    assert history.last["status"]["progress"]["steps"] == f"{STEPS}/{STEPS}"
