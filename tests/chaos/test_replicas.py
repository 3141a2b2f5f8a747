"""Two operators: the one that waits takes over, soon and alone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE, Ready
from quickstart.shell import Kubectl
from tests.e2e.runs import Runs

from .acts import seconds_to_a_decision
from .breaking import kill_container, operator_ready, operators
from .figures import Figures
from .witness import wait_until


@pytest.fixture
def _two(ready: Ready) -> Iterator[None]:
    _scale(ready.kubectl, 2)
    yield
    _scale(ready.kubectl, 1)


def _scale(kubectl: Kubectl, replicas: int) -> None:
    kubectl("scale", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")
    operator_ready(kubectl)


def _leader(kubectl: Kubectl) -> str:
    return str(kubectl.get("lease", RELEASE, "-n", SYSTEM_NAMESPACE)["spec"].get("holderIdentity") or "")


@pytest.mark.usefixtures("_two")
@pytest.mark.parametrize(("signal", "limit"), [("SIGTERM", 3.0), ("SIGKILL", 20.0)])
def test_the_other_replica_takes_over(
    signal: str, limit: float, runs: Runs, figures: Figures, chance: random.Random
) -> None:
    kubectl, taken = runs.kubectl, []
    for _ in range(3):
        wait_until(
            "somebody leads", lambda: _leader(kubectl) in {pod["metadata"]["name"] for pod in operators(kubectl)}
        )
        wait_until("both are there", lambda: len(operators(kubectl)) == 2)
        operator_ready(kubectl)
        time.sleep(chance.uniform(0, 3))
        old = _leader(kubectl)
        (pod,) = [pod for pod in operators(kubectl) if pod["metadata"]["name"] == old]
        began = time.monotonic()
        if signal == "SIGKILL":
            kill_container(kubectl, pod)
            # Its name must not come back: a container that is started again is the same candidate.
            kubectl("delete", "pod", old, "-n", SYSTEM_NAMESPACE, "--force", "--grace-period=0", "--wait=false")
        else:
            kubectl("delete", "pod", old, "-n", SYSTEM_NAMESPACE, "--wait=false")
        decision, _ = seconds_to_a_decision(runs, began)
        assert _leader(kubectl) != old
        taken.append(decision)
    figures.add("replicas", fault=f"{signal} leader", stage="two replicas", decision_s=max(taken), all=taken)
    assert max(taken) <= limit
