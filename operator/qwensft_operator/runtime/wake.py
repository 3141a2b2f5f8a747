"""Turns changes into looks at runs: a burst of them into one, and one's own writes into none.

The event of a write often comes before the answer to it, so a change waits for a moment whether it was our own.
"""

from __future__ import annotations

from typing import Any

from qwensft_operator.runtime.kinds import Key, Kind
from qwensft_operator.runtime.kube import Resource
from qwensft_operator.runtime.queue import Timers, WorkQueue


class Wakes:
    """Puts runs into the queue when something has happened to them; hears of it from the store."""

    def __init__(self, queue: WorkQueue[Key], timers: Timers) -> None:
        self._queue, self._timers = queue, timers
        self._changes: dict[Key, set[tuple[Resource, int]]] = {}
        self._waiting: dict[Key, tuple[float, Any]] = {}  # when it is looked at, and the timer

    def changed(self, key: Key, kind: Kind, version: int) -> None:
        """Have the run looked at within `kind.wake` seconds."""
        self._changes.setdefault(key, set()).add((kind.resource, version))
        due = self._timers.time() + kind.wake
        if key in self._waiting:
            if self._waiting[key][0] <= due:
                return
            self._waiting[key][1].cancel()
        self._waiting[key] = due, self._timers.call_at(due, lambda: self._fire(key))

    def written(self, key: Key, kind: Kind, version: int) -> None:
        """Forget a change that was our own."""
        self._changes.get(key, set()).discard((kind.resource, version))

    def _fire(self, key: Key) -> None:
        del self._waiting[key]
        if self._changes.pop(key):
            self._queue.add(key)
