"""Two gangs, each with half of what it needs: one gives way, and both are trained in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from quickstart.shell import Kubectl
from tests.e2e.runs import Job, Runs

from .acts import TRAINING, seconds_taken, succeeded
from .figures import Figures
from .witness import Witness, wait_until

SLOT, ESCAPED = "qwensft.example/slot", "qwensft.example~1slot"
FIRST = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "qwensft-chaos-first"}}
START_TIMEOUT = 30


class Slots:
    """Something of which a node offers a number, and every pod of a gang needs one."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl, self._node = kubectl, kubectl.items("nodes")[0]["metadata"]["name"]

    def offer(self, count: int | None) -> None:
        """Offer so many; None: they are no more."""
        operation = {"op": "remove"} if count is None else {"op": "add", "value": str(count)}
        patch = [operation | {"path": f"/status/{field}/{ESCAPED}"} for field in ("capacity", "allocatable")]
        words = ("--subresource=status", "--type=json", "-p", json.dumps(patch))
        self._kubectl("patch", "node", self._node, *words)


@pytest.fixture
def slots(runs: Runs) -> Iterator[Slots]:
    slots = Slots(runs.kubectl)
    runs.kubectl("apply", "-f", "-", stdin=json.dumps(FIRST | {"value": 1000, "preemptionPolicy": "Never"}))
    yield slots
    slots.offer(None)
    runs.kubectl("delete", "priorityclass", FIRST["metadata"]["name"])  # type: ignore[index]


def gang(**worker: str) -> Job:
    return {
        "training": TRAINING,
        "worker": worker | {"resources": {"requests": {SLOT: "1"}, "limits": {SLOT: "1"}}},
        "prepare": {"resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}},
        "merge": {"resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}},
        "runPolicy": {"startTimeoutSeconds": START_TIMEOUT},
    }


def test_of_two_gangs_with_half_their_places_one_gives_way(
    runs: Runs, slots: Slots, witness: Witness, figures: Figures
) -> None:
    def placed(name: str) -> int:
        return sum("nodeName" in pod["spec"] for pod in runs.pods(name, "train"))

    slots.offer(1)
    runs.create("gang-a", gang())
    wait_until("gang-a has one place", lambda: placed("gang-a") == 1, 300)
    runs.create("gang-b", gang(priorityClassName="qwensft-chaos-first"))
    wait_until("gang-b waits", lambda: len(runs.pods("gang-b", "train")) == 2, 300)
    slots.offer(2)
    wait_until("gang-b has the other", lambda: placed("gang-b") == 1, 300)
    assert placed("gang-a") == 1

    for name in ("gang-a", "gang-b"):
        job = succeeded(runs, name)
        figures.add("gangs", fault="half of its places", stage=name, restarts=job["status"].get("restarts", 0),
                    run_s=seconds_taken(job))  # fmt: skip
        assert "restarts" not in job["status"], "giving way costs no restart"
    witness.check()
