"""The operator dies, or is left in doubt, at each of its writes, with the real API server and Job controller.

`tests/property/test_crashes.py` does the same in memory, at every write, those of Events included.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from tests.faults.kubelet import SPEC, KubeletHand
from tests.faults.operator import OperatorInstance
from tests.faults.outcome import Outcome, outcome_of
from tests.faults.wire import CrashError, Cut, Line, Wire

from qwensft_operator.plan.times import parse_time
from qwensft_operator.runtime.kube import JOBS, QWENSFTJOBS, Kube, Manifest

from .cluster import PATIENCE, Cluster

AT_ONCE = 12
WORDS_OF_AN_ATTEMPT = 8  # at most: what it waits for is the cluster's doing
WRITES_AGAIN = 12  # of words that come back, as the scheduler's do, or that an operator in doubt repeats; two for each
# An operator that goes on cannot tell a write that was not sent from one whose answer was lost: one of both is enough.
CUTS = (Cut.CRASH_BEFORE, Cut.CRASH_AFTER, Cut.UNANSWERED)


class Clock:
    """The time, without that between two attempts."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def pass_by(self, run: Manifest) -> None:
        """Let the time come at which the next attempt of the run starts."""
        for stage in run.get("status", {}).get("stages", {}).values():
            starts = parse_time(stage.get("retryTime"))
            if starts is not None:
                self.ahead = max(self.ahead, starts - datetime.now(UTC) + timedelta(seconds=1))


async def play(kube: Kube, namespace: str, run: str, line: Line) -> Outcome:
    """Play the run of `KubeletHand` on that line; return what is left."""
    body = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": run}, "spec": SPEC}
    await kube.create(QWENSFTJOBS, namespace, body)
    clock, kubelet = Clock(), KubeletHand(kube, namespace, run)
    wire = Wire(kube._request, line)
    operator = OperatorInstance(wire, clock.now)
    deadline = time.monotonic() + 5 * PATIENCE  # many share the machine
    while time.monotonic() < deadline:
        writes = len(line.writes)
        try:
            await operator.look((namespace, run))
        except CrashError:
            operator = OperatorInstance(wire, clock.now)
        assert not {"bug", "refused", "obstacle"} & set(operator.failures), (run, operator.failures)
        stored = await kube.get(QWENSFTJOBS, namespace, run)
        if stored.get("status", {}).get("phase") == "Succeeded" and len(line.writes) == writes:
            return await outcome_of(kube, namespace, run)
        await kubelet.move()
        await asyncio.sleep(0.3)  # for the Job controller
        clock.pass_by(stored)
    raise AssertionError(f"{run} does not end: {stored.get('status')}")


async def test_whatever_write_is_cut_the_run_ends_as_if_nothing_had_been(lone_cluster: Cluster) -> None:
    kube, namespace = lone_cluster.kube, lone_cluster.namespace
    undisturbed = Line(spares_events=True)
    expected = await play(kube, namespace, "undisturbed", undisturbed)
    assert expected.objects["jobs"] == ["RUN-merge-1", "RUN-prepare-1", "RUN-train-1", "RUN-train-2"]
    assert expected.status["restarts"] == 1
    assert "StorageUnavailable" not in expected.events

    turns = asyncio.Semaphore(AT_ONCE)

    async def cut(number: int, how: Cut) -> None:
        run, line = f"{how.name.lower().replace('_', '-')}-{number}", Line(number, how, spares_events=True)
        async with turns:
            left = await play(kube, namespace, run, line)
        assert left == expected, f"{run}, at {line.writes[number]}"
        created = [path for method, path in line.writes if (method, path.split("/")[-1]) == ("POST", "jobs")]
        assert len(created) <= 5, f"{run}: one creation for each of four attempts, and one again"
        assert len(left.words) <= 4 * WORDS_OF_AN_ATTEMPT, f"{run}: {left.words}"
        assert line.events <= len(left.words) + WRITES_AGAIN, f"{run}: a storm of Events: {left.words}"

    async with asyncio.TaskGroup() as group:
        for number in range(len(undisturbed.writes)):
            for how in CUTS:
                group.create_task(cut(number, how))
    names = [job["metadata"]["name"] for job in await kube.list(JOBS, namespace)]
    assert len(names) == 4 * (1 + len(CUTS) * len(undisturbed.writes)), "one Job for each attempt"
