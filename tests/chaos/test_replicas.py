"""Two operators: the one that waits takes over, soon and alone, and a run that goes on meanwhile does not notice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE, Ready
from quickstart.shell import Kubectl
from tests.e2e.runs import Runs

from qwensft_operator.runtime.kube import Manifest

from .acts import TRAINING, attempts, in_the_middle, seconds_taken, seconds_to_a_decision, succeeded
from .breaking import kill_container, operator_ready, operators
from .figures import Figures
from .reigns import Reigns
from .witness import Witness, wait_until

LIMITS = {"SIGTERM": 3.0, "SIGKILL": 20.0}  # seconds until the other leads


@pytest.fixture
def _two(ready: Ready) -> Iterator[None]:
    _scale(ready.kubectl, 2)
    yield
    _scale(ready.kubectl, 1)


def _scale(kubectl: Kubectl, replicas: int) -> None:
    kubectl("scale", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")
    operator_ready(kubectl)


def _lease(kubectl: Kubectl) -> Manifest:
    return dict(kubectl.get("lease", RELEASE, "-n", SYSTEM_NAMESPACE)["spec"])


def _leader(kubectl: Kubectl) -> str:
    return str(_lease(kubectl).get("holderIdentity") or "")


@pytest.mark.usefixtures("_two")
@pytest.mark.parametrize("signal", LIMITS)
def test_the_other_replica_takes_over_a_run_in_each_stage(
    signal: str, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    kubectl, name, taken, decided = runs.kubectl, f"two-{signal.lower()}", [], []
    with Reigns(kubectl, runs.namespace) as throne:
        runs.create(name, {"training": TRAINING})
        for stage in ("prepare", "train", "merge"):
            _both_are_there(kubectl)
            in_the_middle(runs, name, stage, chance)
            old, killed, now = _leader(kubectl), datetime.now(UTC), time.monotonic()
            _end(kubectl, old, signal)
            if signal == "SIGKILL":
                throne.died(old)
            decided.append(seconds_to_a_decision(runs, now)[0])
            lease = _lease(kubectl)
            assert lease["holderIdentity"] != old
            taken.append((datetime.fromisoformat(lease["acquireTime"]) - killed).total_seconds())
        job = succeeded(runs, name)
        leaders = [reign.leader for reign in throne.check()]
    assert len(set(leaders)) == len(leaders) == 4, leaders
    assert attempts(job) == {"prepare": 1, "train": 1, "merge": 1}, "pods do not depend on who leads"
    assert not job["status"].get("restarts")
    assert {made for made in witness.uids if made.startswith(name)} == {
        f"{name}-{stage}-1" for stage in ("prepare", "train", "merge")
    }
    witness.check()
    figures.add(
        "replicas", fault=f"{signal} leader", stage="prepare, train, merge", decision_s=max(decided),
        steps_lost=0, restarts=0, run_s=seconds_taken(job), taken_over_s=max(taken), all=taken,
    )  # fmt: skip
    assert max(taken) <= LIMITS[signal]


def _both_are_there(kubectl: Kubectl) -> None:
    wait_until("two replicas", lambda: len(operators(kubectl)) == 2)
    operator_ready(kubectl)
    wait_until("one of them leads", lambda: _leader(kubectl) in {pod["metadata"]["name"] for pod in operators(kubectl)})


def _end(kubectl: Kubectl, leader: str, signal: str) -> None:
    if signal == "SIGTERM":
        kubectl("delete", "pod", leader, "-n", SYSTEM_NAMESPACE, "--wait=false")
        return
    (pod,) = [pod for pod in operators(kubectl) if pod["metadata"]["name"] == leader]
    kill_container(kubectl, pod)
    # Its name must not come back: a container that is started again is the same candidate.
    kubectl("delete", "pod", leader, "-n", SYSTEM_NAMESPACE, "--force", "--grace-period=0", "--wait=false")
