"""The operator's own Prometheus metrics: how the process does. What it tells of the runs is in `run_metrics`.

A run's figures are served by its own pods. ADR 0156 says why.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from qwensft_operator import __version__

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FAILURES = ("moved-on", "transient", "refused", "obstacle", "bug")
_OPERATOR = "qwensft_operator_"


class Metrics:
    """Counters, and gauges that read the operator's state when they are scraped."""

    def __init__(self) -> None:
        # Else each series of a counter has one beside it that tells when it began, and that nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Info(f"{_OPERATOR}build", "Version of the operator and of its Python.", registry=self.registry)
        build.info({"version": __version__, "python_version": platform.python_version()})
        self._passes = self._histogram("reconcile_duration_seconds", "Duration of a pass over a run.")
        self._failures = Counter(
            f"{_OPERATOR}reconcile_failures",
            "Passes over runs that are tried again, by kind of failure; moved-on and transient ones are part of life.",
            ["kind"],
            registry=self.registry,
        )
        for kind in _FAILURES:
            self._failures.labels(kind)
        self._waits = self._histogram("queue_wait_seconds", "How long runs waited for a worker.")
        self._requests = Counter(
            f"{_OPERATOR}api_requests",
            "Requests to the API server by verb, resource and HTTP status; 0 is no answer. Of watches, those opened.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._answers = self._histogram(
            "api_request_duration_seconds", "Time until the API server's answer, watches left out."
        )

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a gauge of the operator that calls `read` on every scrape."""
        Gauge(f"{_OPERATOR}{name}", help_text, registry=self.registry).set_function(read)

    def gauges(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        reads: Iterable[tuple[Sequence[str], Callable[[], float]]],
    ) -> None:
        """Add a gauge with labels; `reads` holds their values, and what is called with every scrape."""
        gauge = Gauge(f"{_OPERATOR}{name}", help_text, labels, registry=self.registry)
        for values, read in reads:
            gauge.labels(*values).set_function(read)

    def reconciled(self, seconds: float) -> None:
        """Count a pass and its duration."""
        self._passes.observe(seconds)

    def failed(self, kind: str) -> None:
        """Count a pass that will be tried again; `kind` is moved-on, transient, refused, obstacle or bug."""
        self._failures.labels(kind).inc()

    def waited(self, seconds: float) -> None:
        """Count a run that a worker has taken, and how long that had to wait."""
        self._waits.observe(seconds)

    def requested(self, verb: str, resource: str, code: int, seconds: float | None) -> None:
        """Count a request to the API server: HTTP status, 0 without an answer; no time for a watch."""
        self._requests.labels(verb, resource, str(code)).inc()
        if seconds is not None:
            self._answers.observe(seconds)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(f"{_OPERATOR}{name}", help_text, buckets=_BUCKETS, registry=self.registry)
