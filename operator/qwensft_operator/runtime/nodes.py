"""Labels of nodes, for the memory estimate: read rarely, shared by all runs, and never missed when they cannot be had.

Only the metadata of nodes that carry the label is asked for. What the labels mean is `plan.estimate`'s business.
ADR 0047 says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qwensft_operator.plan.types import NodeView
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import NODES, Kube

_FRESH_SECONDS = 300.0
_RETRY_SECONDS = 30.0  # after a read that failed


@dataclass
class _Entry:
    nodes: tuple[NodeView, ...] = ()
    stale_at: float = float("-inf")
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Nodes:
    """A cache of nodes, one entry per label. With `enabled` false nothing is ever read."""

    def __init__(self, kube: Kube, *, enabled: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._enabled, self._now = kube, enabled, now
        self._entries: dict[str, _Entry] = {}
        self._best_effort = BestEffort()

    async def labelled(self, label: str) -> tuple[NodeView, ...]:
        """Return the nodes that carry a label, as they were at most five minutes ago; () when they cannot be read."""
        if not self._enabled:
            return ()
        entry = self._entries.setdefault(label, _Entry())
        async with entry.reading:  # one read serves all runs that ask meanwhile
            if self._now() >= entry.stale_at:
                what = "the nodes' labels, so no estimate knows the accelerators' memory"
                found = await self._best_effort.attempt(what, self._read(label), None)
                entry.nodes = entry.nodes if found is None else found
                entry.stale_at = self._now() + (_RETRY_SECONDS if found is None else _FRESH_SECONDS)
        return entry.nodes

    async def _read(self, label: str) -> tuple[NodeView, ...] | None:
        found = await self._kube.list(NODES, "", label_selector=label, metadata_only=True)
        return tuple(NodeView(n["metadata"]["name"], n["metadata"].get("labels") or {}) for n in found)
