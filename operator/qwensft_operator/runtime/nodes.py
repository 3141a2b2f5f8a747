"""Labels of nodes, for the memory estimate: read rarely, shared by all runs, and never missed when they cannot be had.

Only the metadata of nodes that carry the label is asked for. What the labels mean is `plan.estimate`'s business.
ADR 0047 says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qwensft_operator.plan.types import NodeView
from qwensft_operator.runtime.answers import Answers
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import NODES, Kube

_FRESH_SECONDS = 300.0
_RETRY_SECONDS = 30.0  # after a read that failed
_KEPT_SECONDS = 10 * _FRESH_SECONDS  # a label for which no run asks any more is forgotten: runs name the resources


class Nodes:
    """A cache of nodes, one entry per label. With `enabled` false nothing is ever read."""

    def __init__(self, kube: Kube, *, enabled: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._enabled, self._now = kube, enabled, now
        self._labelled: Answers[str, tuple[NodeView, ...]] = Answers(tuple, _KEPT_SECONDS, now)
        self._best_effort = BestEffort()

    async def labelled(self, label: str) -> tuple[NodeView, ...]:
        """Return the nodes that carry a label, as they were at most five minutes ago; () when they cannot be read."""
        if not self._enabled:
            return ()
        known = self._labelled.about(label)
        async with known.turn:
            if self._now() >= known.stale_at:
                what = "the nodes' labels, so no estimate knows the accelerators' memory"
                found = await self._best_effort.attempt(what, self._read(label), None)
                known.value = known.value if found is None else found
                known.stale_at = self._now() + (_RETRY_SECONDS if found is None else _FRESH_SECONDS)
        return known.value

    async def _read(self, label: str) -> tuple[NodeView, ...] | None:
        found = await self._kube.list(NODES, "", label_selector=label, metadata_only=True)
        return tuple(NodeView(n["metadata"]["name"], n["metadata"].get("labels") or {}) for n in found)
