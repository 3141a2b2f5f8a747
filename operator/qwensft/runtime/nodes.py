"""Labels of nodes, for the memory estimate: read rarely, shared by all runs, and never missed when they cannot be had.

Only the metadata of nodes that carry the label is asked for. What the labels mean is `plan.estimate`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qwensft.plan.types import NodeView
from qwensft.runtime.kube import NODES, ForbiddenError, Kube, KubeError

_FRESH_SECONDS = 300.0
_RETRY_SECONDS = 30.0  # after a read that failed

logger = logging.getLogger(__name__)


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
        self._refused = False

    async def labelled(self, label: str) -> tuple[NodeView, ...]:
        """Return the nodes that carry a label, as they were at most five minutes ago; () when they cannot be read."""
        if not self._enabled:
            return ()
        entry = self._entries.setdefault(label, _Entry())
        async with entry.reading:  # one read serves all runs that ask meanwhile
            if self._now() >= entry.stale_at:
                entry.stale_at = self._now() + await self._read(label, entry)
        return entry.nodes

    async def _read(self, label: str, entry: _Entry) -> float:
        """Fill the entry; return for how many seconds it is good."""
        try:
            found = await self._kube.list(NODES, "", label_selector=label, metadata_only=True)
        except ForbiddenError as error:
            if not self._refused:
                logger.info("nodes may not be read, so no estimate knows the accelerators' memory: %s", error.message)
            self._refused = True
            return _FRESH_SECONDS
        except KubeError as error:
            logger.warning("nodes could not be read: %s", error)
            return _RETRY_SECONDS
        entry.nodes = tuple(NodeView(n["metadata"]["name"], n["metadata"].get("labels") or {}) for n in found)
        return _FRESH_SECONDS
