"""What network, API server and clock may do to passes over the cluster of `cluster.py`: crashes, lost answers, jumps.

An API server that answers a write with 409, 429 or 5xx is a pass that ends before it, as a crash is: the core keeps
nothing in memory. What only the runtime can get wrong is tried in `test_faults.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from qwensft_operator.plan import Observed
from qwensft_operator.plan.types import Action

from .cluster import Cluster, Pass


@dataclass
class CutCluster(Cluster):
    """A cluster that ends passes at a write, counted over the whole run, before or after it is done."""

    writes: int = 0
    cut_at: int | None = None
    lands: bool = False

    def reconcile(self, *, crash_before: int | None = None, meanwhile: Callable[[], None] | None = None) -> Pass:
        """Make one pass; one that is cut has stored its status if that write was done."""
        try:
            return super().reconcile(crash_before=crash_before, meanwhile=meanwhile)
        except _CutError as cut:
            done = self.passes[-1]
            done.stored = cut.stored
            return done

    def _execute(self, observed: Observed, action: Action) -> None:
        self._write(lambda: super(CutCluster, self)._execute(observed, action), is_status=False)

    def _store(self, observed: Observed, status: dict[str, Any]) -> None:
        self._write(lambda: super(CutCluster, self)._store(observed, status), is_status=True)

    def _write(self, doing: Callable[[], None], *, is_status: bool) -> None:
        cut, self.writes = self.writes == self.cut_at, self.writes + 1
        if not cut or self.lands:
            doing()
        if cut:
            raise _CutError(stored=self.lands and is_status)


class _CutError(Exception):
    def __init__(self, *, stored: bool) -> None:
        self.stored = stored


class Played(Protocol):
    """The trial of `trial.py`, as far as it is needed here."""

    cluster: CutCluster
    clock_was_set: bool

    def _account(self, done: Pass) -> None: ...


class Disturbances:
    """Happenings for the trial."""

    def lose_answer(self: Played, number: int) -> None:
        """A write of the pass is done, and nobody learns of it: the pass ends there."""
        cluster = self.cluster
        cluster.cut_at, cluster.lands = cluster.writes + number % 5, True
        self._account(cluster.reconcile())
        cluster.cut_at = None

    def answer_slowly(self: Played, number: int) -> None:
        """Between what a pass reads and what it writes, attempts fail, pods stop and minutes go by."""

        def meanwhile() -> None:
            for job in cluster.active():
                if number % 2 and not job.lost and not job.cause:
                    cluster.fail(job, "counted")
                elif not number % 3 and not job.deleting:  # what the pass has seen is still there to compare with
                    cluster.pods_stop(job)

        cluster = self.cluster
        self._account(cluster.reconcile(meanwhile=meanwhile))

    def set_clock(self: Played, number: int) -> None:
        """The clock jumps by up to an hour, and back as well as forth."""
        self.clock_was_set = True  # no time that the status tells is right from here on
        self.cluster.now += timedelta(minutes=12 * (number - 5))
