"""Two operators: the one that waits takes over, soon and alone."""

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


def _lease(kubectl: Kubectl) -> Manifest:
    return dict(kubectl.get("lease", RELEASE, "-n", SYSTEM_NAMESPACE)["spec"])


def _leader(kubectl: Kubectl) -> str:
    return str(_lease(kubectl).get("holderIdentity") or "")


@pytest.mark.usefixtures("_two")
@pytest.mark.parametrize(("signal", "limit"), [("SIGTERM", 3.0), ("SIGKILL", 20.0)])
def test_the_other_replica_takes_over(
    signal: str, limit: float, runs: Runs, figures: Figures, chance: random.Random
) -> None:
    kubectl, taken, decided = runs.kubectl, [], []
    for _ in range(3):
        wait_until(
            "somebody leads", lambda: _leader(kubectl) in {pod["metadata"]["name"] for pod in operators(kubectl)}
        )
        wait_until("both are there", lambda: len(operators(kubectl)) == 2)
        operator_ready(kubectl)
        time.sleep(chance.uniform(0, 3))
        old = _leader(kubectl)
        (pod,) = [pod for pod in operators(kubectl) if pod["metadata"]["name"] == old]
        if signal == "SIGKILL":
            kill_container(kubectl, pod)
            # Its name must not come back: a container that is started again is the same candidate.
            kubectl("delete", "pod", old, "-n", SYSTEM_NAMESPACE, "--force", "--grace-period=0", "--wait=false")
        else:
            kubectl("delete", "pod", old, "-n", SYSTEM_NAMESPACE, "--wait=false")
        killed, now = datetime.now(UTC), time.monotonic()
        decided.append(seconds_to_a_decision(runs, now)[0])
        lease = _lease(kubectl)
        assert lease["holderIdentity"] != old
        taken.append((datetime.fromisoformat(lease["acquireTime"]) - killed).total_seconds())
    figures.add(
        "replicas", fault=f"{signal} leader", stage="two replicas",
        decision_s=max(decided), taken_over_s=max(taken), all=taken,
    )  # fmt: skip
    assert max(taken) <= limit
