"""Counters of namespaces: their series stand at zero before they move, and end when a namespace has long had no run.

Prometheus tells an increase by two samples. A run that ends within seconds, in a namespace that had none or under an
operator that has just started, would be the first sample of its series, and never counted by a query.
ADR 0156 says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter

from qwensft.api.v1alpha1 import Phase
from qwensft_operator import plan

NAMESPACE = "run_namespace"  # `namespace` would be taken for the operator's own, which scrapes add to each series
_AT_ZERO = 120.0
"""For so many seconds a new series stays at zero: two scrapes of every usual interval see it so."""
_FORGOTTEN_AFTER = 3600.0
"""Without a run in it a namespace has its series for so many seconds, by when every increase has been scraped."""
_ENDS = (Phase.SUCCEEDED, Phase.FAILED)


@dataclass
class _Series:
    since: float  # when they came to be
    used: float  # when the namespace had a run
    held_back: list[plan.Happenings] = field(default_factory=list)


class NamespaceCounters:
    """`kept` are namespaces that the operator was told to serve: they have their series always.

    `now` tells seconds of a monotonic clock: one that is set would hold counts back, or drop series, for hours.
    """

    def __init__(self, registry: CollectorRegistry, kept: Iterable[str], now: Callable[[], float]) -> None:
        self._now, self._kept = now, tuple(kept)
        self._ended = Counter(
            "qwensft_runs_ended", "Runs that have ended, by phase.", [NAMESPACE, "phase"], registry=registry
        )
        self._held, self._before, self._lost = (
            Counter(f"qwensft_accelerator_{name}seconds", f"Accelerator time {what}.", [NAMESPACE], registry=registry)
            for name, what in (
                ("", "that attempts have held: seconds times accelerators"),
                ("before_first_step_", "that passed before the first steps of trainings' attempts"),
                ("lost_to_restarts_", "for steps that a later attempt trained again"),
            )
        )
        self._series: dict[str, _Series] = {}
        for namespace in self._kept:
            self.know(namespace)

    def known(self) -> list[str]:
        """The namespaces that have series."""
        return sorted(self._series)

    def know(self, namespace: str) -> None:
        """There is a run: have its namespace's series there."""
        now = self._now()
        if namespace in self._series:
            self._series[namespace].used = now
            return
        self._series[namespace] = _Series(now, now)
        for phase in _ENDS:
            self._ended.labels(namespace, phase)
        for counter in (self._held, self._before, self._lost):
            counter.labels(namespace)

    def count(self, namespace: str, news: plan.Happenings) -> None:
        """Count what has happened to a run: at once, or when the series have been there for long enough."""
        self.know(namespace)
        self._series[namespace].held_back.append(news)
        self._catch_up(namespace)

    def scraped(self, present: Collection[str]) -> None:
        """Count what was held back, and drop the series of namespaces that have long had no run.

        `present` are those that have one: nobody tells which of the others are gone.
        """
        now = self._now()
        for namespace, series in [*self._series.items()]:
            self._catch_up(namespace)
            if namespace in present or namespace in self._kept:
                series.used = now
            elif now - series.used > _FORGOTTEN_AFTER:
                self._forget(namespace)

    def _catch_up(self, namespace: str) -> None:
        series = self._series[namespace]
        if self._now() - series.since < _AT_ZERO:
            return
        for news in series.held_back:
            if news.end is not None:
                self._ended.labels(namespace, news.end).inc()
            self._held.labels(namespace).inc(news.held)
            self._before.labels(namespace).inc(news.before_first_step)
            self._lost.labels(namespace).inc(news.lost_to_restarts)
        series.held_back.clear()

    def _forget(self, namespace: str) -> None:
        del self._series[namespace]
        for phase in _ENDS:
            self._ended.remove(namespace, phase)
        for counter in (self._held, self._before, self._lost):
            counter.remove(namespace)
