"""The operator's pass over one run, without its watches: a test says when it looks, and what it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from qwensft_operator.render import Defaults, NetworkRules
from qwensft_operator.runtime.execute import Executor
from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.kinds import Key, Kind
from qwensft_operator.runtime.kube import Kube, Manifest
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.observe import Observer
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.reader import Hears, Reader
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.scrape import Scraper
from qwensft_operator.runtime.status import Reporter
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.workloads import Workloads


class OperatorInstance:
    """An operator with an empty memory. `failures` counts the passes that went wrong, by kind.

    Args:
        kube: How it asks the API server.
        now: Its clock.
        hears: Whether it may rely on its store, which the test then fills in place of the watches.
        nodes: Whether it may list nodes.
        network: What it adds to the NetworkPolicies of runs; None = it makes none.
        told: Hears of each status that was accepted, as metrics do.
    """

    def __init__(
        self,
        kube: Kube,
        now: Callable[[], datetime],
        *,
        hears: Hears = lambda resource, namespace: False,
        nodes: bool = False,
        network: NetworkRules | None = None,
        told: Callable[[Manifest, Manifest], None] = lambda before, after: None,
    ) -> None:
        metrics = _CountedMetrics()
        self.failures = metrics.failures
        self.store = Store(_NoListener())
        kube.on_write = self.store.wrote
        self._reconciler = Reconciler(
            WorkQueue(_NoTimers()),
            self.store,
            Observer(
                Reader(kube, self.store, hears),
                Explanations(kube),
                Scraper(),
                Nodes(kube, enabled=nodes),
                Workloads(kube),
                network_policies=network is not None,
            ),
            Executor(kube, Defaults(trainer_image="qwensft/trainer:test"), network=network),
            Reporter(kube, "test"),
            metrics=metrics,
            told=told,
            scrape_interval=1,
            now=now,
        )

    async def look(self, key: Key) -> None:
        """Make one pass over a run."""
        await self._reconciler.handle(key)


class _CountedMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__()
        self.failures: Counter[str] = Counter()

    def failed(self, kind: str) -> None:
        self.failures[kind] += 1


class _NoTimers:
    """The test decides when the next pass is."""

    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, callback: Callable[[], None], /) -> Any:
        return self

    def cancel(self) -> None:
        """Nothing was set."""


class _NoListener:
    """The test knows what has happened."""

    def changed(self, key: Key, kind: Kind, version: int) -> None:
        """Nobody waits for it."""

    def written(self, key: Key, kind: Kind, version: int) -> None:
        """Nobody waits for it."""
