"""The operator's runtime over a control plane in memory, and what must hold in it at any moment."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.kubelet import SPEC, KubeletHand, ended, running
from tests.faults.operator import OperatorInstance
from tests.faults.wire import CrashError, Cut, Line, Wire

from qwensft.api.v1alpha1 import Status
from qwensft_operator import plan
from qwensft_operator.runtime.kinds import KINDS
from qwensft_operator.runtime.kube import CLAIMS, CONFIG_MAPS, JOBS, QWENSFTJOBS, Manifest, Resource

from .control_plane import ControlPlane

START = datetime(2026, 1, 2, tzinfo=UTC)
KEY = ("team", "demo")
OVER = ("Succeeded", "Failed")
ALARMS = {"bug", "refused", "obstacle"}
"""Passes that go wrong in these ways would be told to users: no fault of network or API server may cause one."""


class World:
    """A run, its cluster, and one operator after another."""

    def __init__(self, line: Line | None = None, **policy: Any) -> None:
        self.plane, self.line = ControlPlane(START), line or Line()
        self.plane.on_create = self._check_creation
        self._behind = Wire(self.plane.request, Line())  # no fault meets what is not the operator's
        self.kubelet = KubeletHand(self._behind, "team")
        self._provide(policy)
        self.counted: Counter[str] = Counter()  # by all operators: what their metrics tell has happened
        self.stalled: set[Resource] = set()  # kinds of whose changes the operators do not hear
        self.operator = self.new_operator()

    @property
    def kube(self) -> Wire:
        """A client of the test's own."""
        return self._behind

    @property
    def run(self) -> Manifest:
        """The run as stored."""
        return self.plane.objects[QWENSFTJOBS.plural, *KEY]

    @property
    def status(self) -> Status:
        """Its status."""
        return Status.model_validate(self.run["status"])

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.run["status"].get("phase") in OVER

    def new_operator(self) -> OperatorInstance:
        """An operator with an empty memory, but for the list of all objects with which its watches begin."""
        wire = Wire(self.plane.request, self.line)
        operator = OperatorInstance(
            wire, lambda: self.plane.now, hears=lambda resource, namespace: True, told=self._count
        )
        self.deliver(operator, KINDS)
        return operator

    def _count(self, before: Manifest, after: Manifest) -> None:
        """Count as `RunMetrics` does."""
        news = plan.happenings(before.get("status") or {}, after)
        self.counted.update(f"{stage} again: {reason}" for stage, reason in news.restarts)
        self.counted.update(f"{stage} done" for stage, _ in news.stages)
        self.counted.update([news.end] if news.end is not None else [])

    def deliver(self, operator: OperatorInstance, resources: Iterable[Resource]) -> None:
        """Tell an operator's store all that the watches of some kinds would have told by now."""
        for kind in map(KINDS.__getitem__, resources):
            found = [copy.deepcopy(m) for m in self.plane.of(kind.resource.plural) if kind.is_watched(m)]
            for manifest in found:
                operator.store.observed(kind, manifest)
            names = [(m["metadata"]["namespace"], m["metadata"]["name"]) for m in found]
            operator.store.listed(kind, "", self.plane.version(), names)

    async def look(self, beside: OperatorInstance | None = None) -> bool:
        """Make a pass; return whether anything was written. An operator that dies is followed by another.

        Args:
            beside: An operator other than the world's own, to look in its place.
        """
        writes, operator = len(self.line.writes), beside or self.operator
        self.deliver(operator, KINDS.keys() - self.stalled)
        try:
            await operator.look(KEY)
        except CrashError:
            self.operator = self.new_operator()
        assert not ALARMS & set(operator.failures), operator.failures
        return len(self.line.writes) > writes

    async def look_cut(self, number: int, how: Cut) -> None:
        """Make a pass that is cut at one of its writes."""
        self.line.cut_at, self.line.how = len(self.line.writes) + number, how
        await self.look()
        self.line.cut_at = None

    async def look_while(self, at: int | str, happens: Callable[[], Awaitable[None]]) -> None:
        """Make a pass in which something happens before one of its requests; it may raise that request's answer.

        Args:
            at: Number of the request, from 0; or a part of "METHOD path" that the first such request has.
            happens: What happens.
        """
        seen = 0

        async def before(method: str, path: str) -> None:
            nonlocal seen
            seen += 1
            if seen == at + 1 if isinstance(at, int) else at in f"{method} {path}":
                self.line.before = None
                await happens()

        self.line.before = before
        await self.look()
        self.line.before = None

    def active(self) -> list[Manifest]:
        """Jobs of this run that may have pods."""
        uid = self.run["metadata"]["uid"]
        return [
            job
            for job in self.plane.of(JOBS.plural)
            if self.plane.live(job) and job["metadata"]["ownerReferences"][0]["uid"] == uid
        ]

    async def report(self, job: Manifest, outcome: str, code: int = 0, *, index: int | None = None) -> None:
        """Have pods of a Job report: all, or the one of that index. An outcome "" means that they are up."""
        for place, pod in enumerate(self.plane.pods_of(job)):
            over = pod["status"]["phase"] in ("Succeeded", "Failed")
            if not over and "deletionTimestamp" not in pod["metadata"] and index in (None, place):
                told = ended(pod, code, {"outcome": outcome}) if outcome else running()
                await self.kubelet.report(pod, *told)

    async def edit(self, **policy: Any) -> None:
        """Edit spec.runPolicy as the user."""
        await self.kube.merge(QWENSFTJOBS, *KEY, {"spec": {"runPolicy": policy}})

    def recreate(self) -> None:
        """Delete the run and create it anew under its name."""
        run = self.plane.objects.pop((QWENSFTJOBS.plural, *KEY))
        anew = {key: run[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "demo"}}
        self.plane.put(QWENSFTJOBS.plural, "team", anew)

    async def move_on(self) -> None:
        """Everything that a cluster does by itself, given time."""
        for job in self.active():
            pods = self.plane.pods_of(job)
            up = all(pod["status"]["phase"] != "Pending" for pod in pods)
            await self.report(job, "Succeeded" if up else "")
        self.plane.settle()
        self.plane.now += timedelta(seconds=20)

    async def come_to_rest(self) -> None:
        """Let it end, without faults from now on."""
        self.stalled = set()
        self.plane.now = max(self.plane.now, START)
        await self.edit(suspend=False)
        for _ in range(800):  # a clock that was set back by hours makes an attempt wait for as long
            wrote = await self.look()
            if self.over and not wrote:
                assert all("deletionTimestamp" in job["metadata"] for job in self.active()), "pods outlive the run"
                return
            await self.move_on()
        raise AssertionError(f"at {self.plane.now} the run has not ended: {self.run['status']}")

    def _check_creation(self, job: Manifest) -> None:
        """What must hold at the moment in which a Job comes into being."""
        labels = job["metadata"]["labels"]
        stage, attempt = labels["qwensft.io/stage"], int(labels["qwensft.io/attempt"])
        if job["metadata"]["ownerReferences"][0]["uid"] != self.run["metadata"]["uid"]:
            return  # of a run that has just been deleted: its owner is gone, and so will it be
        status = self.status
        assert not self.active(), "two attempts at once"
        assert status.completion_time is None, "a start after the end"
        record = getattr(status.stages, stage)
        reserved = (1, None) if record is None else (record.attempt or 1, record.job_name)
        assert reserved == (attempt, None), f"attempt {attempt} starts while {reserved} is reserved"
        early = record is not None and record.retry_time is not None and self.plane.now < record.retry_time
        assert not early, "a start before the wait is over"
        assert ("configmaps", "team", job["metadata"]["name"]) in self.plane.objects, "pods would wait for it"

    def _provide(self, policy: dict[str, Any]) -> None:
        """Create the run and what it names."""
        bound = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
        self.plane.put(CLAIMS.plural, "team", {"metadata": {"name": "models"}, **bound})
        self.plane.put(CONFIG_MAPS.plural, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
        run = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "demo"}}
        self.plane.put(QWENSFTJOBS.plural, "team", run | {"spec": SPEC | {"runPolicy": policy}})
