"""A cluster in memory, and the passes that the operator makes over a run in it."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from qwensft_operator.render import Defaults
from qwensft_operator.runtime.execute import Executor
from qwensft_operator.runtime.kinds import Key
from qwensft_operator.runtime.kube import (
    CONFIG_MAPS,
    QWENSFTJOBS,
    Manifest,
)
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.queue import Backoff, WorkQueue
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.status import Reporter

from .fakes import FakeKube, job_manifest, make_observer, make_store

KEY = ("team", "demo")


class StillTimers:
    """A clock that stands still, and remembers what was to be called when."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, _: Callable[[], None], /) -> Any:
        self.waits.append(when)
        return self

    def cancel(self) -> None:
        self.waits.pop()


class World:
    def __init__(self, kube: FakeKube | None = None, *, watching: bool = False) -> None:
        self.kube, self.timers = kube or FakeKube(), StillTimers()
        self.clock, self.seconds_per_look = 0.0, 0.0
        self.store = make_store(self.kube)
        self.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
        self.queue: WorkQueue[Key] = WorkQueue(self.timers, Backoff(base=1, jitter=lambda: 0))
        moments = (datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in itertools.count())
        self.executor = Executor(self.kube, Defaults("trainer:1"), "system/one")
        self.reconciler = Reconciler(
            self.queue,
            self.store,
            make_observer(self.kube, self.store, watching=watching),
            self.executor,
            Reporter(self.kube, "me"),
            metrics=Metrics(),
            scrape_interval=10,
            installation="system/one",
            now=lambda: next(moments),
            monotonic=self._look_at_the_clock,
        )

    def _look_at_the_clock(self) -> float:
        self.clock += self.seconds_per_look
        return self.clock

    @property
    def run(self) -> Manifest:
        return self.kube.objects["qwensftjobs", "team", "demo"]

    def writes(self) -> list[tuple[str, str]]:
        return [(verb, plural) for verb, plural, _ in self.kube.calls if verb not in ("get", "list")]


def watched_world() -> World:
    world = World(watching=True)
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    return world


def reasons(world: World) -> set[str]:
    """Reasons of the conditions that sum up how the run does."""
    conditions = world.run.get("status", {}).get("conditions", ())
    return {c["reason"] for c in conditions if c["type"] in ("Succeeded", "Reconciling", "Stalled")}
