"""What the operator tells of the runs: gauges read from the store at each scrape, counters moved with each status.

Gauges are the leader's alone, so that sums over replicas are right. A counter moves when the API server has accepted a
status of ours, which happens once for each change whoever leads: nothing is counted twice. What happened after
the last scrape of a process that ends is lost, and what was written without an answer.
ADR 0156 says why.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qwensft.api.v1alpha1 import Reason, Stage
from qwensft_operator import plan
from qwensft_operator.runtime.kinds import RUNS
from qwensft_operator.runtime.kube import JOBS, PODS, Manifest
from qwensft_operator.runtime.namespace_counters import NAMESPACE, NamespaceCounters
from qwensft_operator.runtime.store import Store

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STAGE_SECONDS = (
    *(10, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY),
)
# Causes for which another attempt is made; others are counted as they come.
_RESTARTS = {
    Stage.PREPARE: (Reason.PREPARATION_FAILED, Reason.DOWNLOAD_FAILED),
    Stage.TRAIN: (
        *(Reason.TRAINING_FAILED, Reason.NON_FINITE_LOSS, Reason.TRAINING_STALLED, Reason.TRAINING_INCOMPLETE),
        *(Reason.RENDEZVOUS_TIMEOUT, Reason.START_MISMATCH, Reason.HALF_SCHEDULED),
        *(Reason.ACCELERATOR_MISSING, Reason.ACCELERATOR_FAILED, Reason.KILLED_BEFORE_SAVED),
    ),
    Stage.MERGE: (Reason.MERGE_FAILED,),
}
_RESTARTS_ANYWHERE = (
    *(Reason.OUT_OF_MEMORY, Reason.DISK_FULL, Reason.LOCAL_STORAGE_EXCEEDED, Reason.INTERRUPTED),
    *(Reason.PREEMPTED, Reason.NODE_LOST, Reason.POD_REJECTED, Reason.JOB_DELETED),
)


class RunMetrics(Collector):
    """Of all runs that are served. `is_leading` and `now` are asked with every scrape; `namespaces`: () is all."""

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        *,
        namespaces: Iterable[str],
        is_leading: Callable[[], bool],
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._is_leading, self._now = store, is_leading, now
        self._of_namespaces = NamespaceCounters(registry, namespaces, monotonic)
        self._restarts = Counter(
            "qwensft_restarts",
            "Attempts that followed a failed one, by stage and cause, whether they count against a limit or not.",
            ["stage", "reason"],
            registry=registry,
        )
        self._stages = Histogram(
            "qwensft_stage_duration_seconds",
            "From the start of a stage's first attempt until the stage was done.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self._prepare()
        registry.register(self)  # after the counters: what is counted by it is seen by the next scrape

    def told(self, before: Manifest, after: Manifest) -> None:
        """The API server has accepted a status: `before` is the run as it was read, `after` its new status."""
        news = plan.happenings(before.get("status") or {}, after)
        for stage, reason in news.restarts:
            self._restarts.labels(stage, reason).inc()
        for stage, seconds in news.stages:
            self._stages.labels(stage).observe(seconds)
        self._of_namespaces.count(before["metadata"]["namespace"], news)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges of the moment; without series while this replica does not lead."""
        now = self._now()
        self._of_namespaces.scraped({namespace for namespace, _ in (*self._store.runs(), *self._store.over())})
        moment = _Moment(self._store, now) if self._is_leading() else None
        for namespace in moment.namespaces if moment else ():
            self._of_namespaces.know(namespace)
        known = self._of_namespaces.known() if moment else []
        yield _gauge(
            "qwensft_runs",
            "Runs by phase, and the reason of their condition Succeeded. Unseen: the operator has not come to it yet.",
            [NAMESPACE, "phase", "reason"],
            moment.runs(known) if moment else (),
        )
        yield _gauge(
            "qwensft_run_waiting_seconds",
            "For how long the run has not moved that has waited longest, by the reason why; 0 where none waits.",
            [NAMESPACE, "reason"],
            moment.waiting(known) if moment else (),
        )
        yield _gauge(
            "qwensft_accelerators_held",
            "Accelerators of pods that have a node and have not ended.",
            [NAMESPACE],
            (((namespace,), moment.accelerators[namespace]) for namespace in known) if moment else (),
        )

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: whoever registers this looks at no run for it."""
        return iter(())

    def _prepare(self) -> None:
        """Have every series there from the start, so that the first event is an increase."""
        for stage in Stage:
            self._stages.labels(stage)
            for reason in (*_RESTARTS[stage], *_RESTARTS_ANYWHERE):
                self._restarts.labels(stage, reason)


class _Moment:
    """All runs of the store, counted once."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._counts = Tally(store.over())
        self._longest: dict[tuple[str, str], float] = {}
        self.accelerators: Tally[str] = Tally()
        for key in store.runs():
            run = store.get(RUNS.resource, *key)
            if run is not None:
                self._count(key[0], run, store.children(JOBS, key), store.children(PODS, key), now)

    def _count(self, namespace: str, run: Manifest, jobs: list[Manifest], pods: list[Manifest], now: datetime) -> None:
        where = plan.standing(run)
        self._counts[namespace, where] += 1
        self.accelerators[namespace] += plan.accelerators_held(run, pods)
        if plan.waits(where):
            since = plan.last_move(run, jobs) or now
            place = namespace, where.reason or where.phase
            self._longest[place] = max(self._longest.get(place, 0.0), (now - since).total_seconds())

    @property
    def namespaces(self) -> set[str]:
        """Where there are runs."""
        return {namespace for namespace, _ in self._counts}

    def runs(self, known: Iterable[str]) -> Iterator[Sample]:
        """How many, with a zero for each phase in which there is none."""
        yield from (((namespace, *where), count) for (namespace, where), count in self._counts.items())
        present = {(namespace, where.phase) for namespace, where in self._counts}
        absent = ((n, phase) for n in known for phase in plan.PHASES if (n, phase) not in present)
        yield from (((namespace, phase, ""), 0) for namespace, phase in absent)

    def waiting(self, known: Iterable[str]) -> Iterator[Sample]:
        """For how long the longest waits."""
        yield from self._longest.items()
        waited = {namespace for namespace, _ in self._longest}
        yield from (((namespace, ""), 0.0) for namespace in known if namespace not in waited)


def _gauge(name: str, help_text: str, labels: list[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, help_text, labels=labels)
    for values, value in samples:
        gauge.add_metric(values, value)
    return gauge
