"""The operator's own Prometheus metrics. A run's figures are served by its own pods, not here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters, and gauges that read the operator's state when they are scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._seconds = Histogram(
            "qwensft_reconcile_seconds", "Duration of one reconcile pass.", buckets=_BUCKETS, registry=self.registry
        )
        self._failures = Counter(
            "qwensft_reconcile_failures", "Reconcile passes that will be tried again.", ["kind"], registry=self.registry
        )

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a gauge that calls `read` on every scrape."""
        Gauge(name, help_text, registry=self.registry).set_function(read)

    def gauges(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        reads: Iterable[tuple[Sequence[str], Callable[[], float]]],
    ) -> None:
        """Add a gauge with labels; `reads` holds their values, and what is called with every scrape."""
        gauge = Gauge(name, help_text, labels, registry=self.registry)
        for values, read in reads:
            gauge.labels(*values).set_function(read)

    def reconciled(self, seconds: float) -> None:
        """Count a pass and its duration."""
        self._seconds.observe(seconds)

    def failed(self, kind: str) -> None:
        """Count a pass that will be tried again; `kind` is moved-on, transient, refused, obstacle or bug."""
        self._failures.labels(kind).inc()
