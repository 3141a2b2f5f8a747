"""A training that is killed, taken away by a queue or drained ends with the same bits as one that nobody disturbed.

The same in processes of one machine, without a cluster: tests/training. Not part of what a run may rely on is that two
kinds of processors give the same bits: the node here is always the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.runs import Job, Runs

from .acts import SAVED_EVERY, TRAINING, attempts, is_up, step_of, succeeded
from .breaking import kill_worker
from .witness import Witness

# The base trains in fp32 with one thread. 8 rows a step: the second epoch begins after some 30 steps.
_SPEC = {"training": TRAINING | {"gradientAccumulationSteps": 2}, "merge": {"enabled": True}}
SPECS: dict[str, dict[str, Any]] = {
    "lora": _SPEC | {"tuning": {"lora": {"dropout": 0.2}}},
    "zero3": _SPEC | {"tuning": {"method": "full", "lora": None}, "distribution": {"deepspeed": {"stage": 3}}},
}
DISTURBED_AT = 40


def _kill(runs: Runs, name: str) -> None:
    kill_worker(runs.kubectl, runs.pods(name, "train")[1])


def _take_away(runs: Runs, name: str) -> None:
    """As Kueue does: the same Job, and so the same attempt, gets new pods."""

    def suspend(held: bool) -> None:
        patch = json.dumps({"spec": {"suspend": held}})
        runs.kubectl("patch", "job", f"{name}-train-1", "-n", runs.namespace, "--type=merge", f"--patch={patch}")

    suspend(True)
    time.sleep(2)  # the old pods still save when the new ones come
    suspend(False)


def _drain(runs: Runs, name: str) -> None:
    """As a drain of the node does with one pod."""
    pod = runs.pods(name, "train")[0]["metadata"]["name"]
    runs.kubectl("delete", "pod", pod, "-n", runs.namespace, "--wait=false")


DISTURBANCES: dict[str, Callable[[Runs, str], None]] = {"kill": _kill, "queue": _take_away, "drain": _drain}


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> dict[str, str]:
    """The weights' digest for each spec, of two trainings that must agree before anything else is compared."""
    found = {}
    for kind, spec in SPECS.items():
        digests = []
        for number in (1, 2):
            runs.create(f"{kind}-undisturbed-{number}", spec)
            digests.append(_digest(runs, succeeded(runs, f"{kind}-undisturbed-{number}")))
        assert len(set(digests)) == 1, f"{kind}: two trainings that nobody disturbed differ"
        found[kind] = digests[0]
    return found


@pytest.mark.parametrize("disturbance", DISTURBANCES)
@pytest.mark.parametrize("kind", SPECS)
def test_a_disturbed_training_ends_with_the_same_bits(
    kind: str, disturbance: str, undisturbed: dict[str, str], runs: Runs, witness: Witness
) -> None:
    name = f"{kind}-{disturbance}"
    runs.create(name, SPECS[kind])
    runs.until(name, lambda job: step_of(job) >= DISTURBED_AT and _off_a_save(job), f"step {DISTURBED_AT}")
    assert all(is_up(pod) for pod in runs.pods(name, "train"))
    DISTURBANCES[disturbance](runs, name)
    job = succeeded(runs, name)
    assert attempts(job)["train"] == (1 if disturbance == "queue" else 2)
    assert _digest(runs, job) == undisturbed[kind]
    witness.check()


def _off_a_save(job: Job) -> bool:
    return step_of(job) % SAVED_EVERY != 0


def _digest(runs: Runs, job: Job) -> str:
    outputs = job["status"]["outputs"]
    trained = outputs.get("adapter") or outputs["model"]
    return runs.script("weights_digest.py", job, f"/workspace/{trained['path']}").splitlines()[-1]
