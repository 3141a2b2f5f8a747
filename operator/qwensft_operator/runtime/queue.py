"""A work queue with the semantics of client-go's: which keys to reconcile, when, and never twice at once.

Holds keys only, never objects. It knows nothing of Kubernetes; `reconcile` decides what happens to a key.
ADR 0041 says why.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

K = TypeVar("K")


class QueueClosedError(Exception):
    """The queue was closed: a worker that waits for a key ends."""


class Timers(Protocol):
    """The part of an event loop that the queue needs; tests hand in a fake clock."""

    def time(self) -> float:
        """Seconds on a monotonic clock."""
        ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Any:
        """Call back at that time; return a handle with `cancel()`."""
        ...


class Backoff(Generic[K]):
    """Exponential delays per key: `base` seconds, doubled with every failure up to `cap`, halved at most by jitter."""

    def __init__(self, base: float = 0.5, cap: float = 30.0, jitter: Callable[[], float] = random.random) -> None:
        self._base, self._cap, self._jitter = base, cap, jitter
        self._failures: dict[K, int] = {}

    def next(self, key: K) -> float:
        """Count a failure; return the seconds to wait before the next try."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is bounded: 2.0 ** 1100 overflows after a few days of failures.
        return float(min(self._cap, self._base * 2 ** min(failures, 30)) * (1 - self._jitter() / 2))

    def failures(self, key: K) -> int:
        """How often the key has failed since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key succeeded: start over with the shortest delay."""
        self._failures.pop(key, None)


class WorkQueue(Generic[K]):
    """De-duplicating queue of keys.

    A key that is added while it waits is processed once; one that is added while it is processed is processed once
    more afterwards. Delayed additions keep the earliest time. All methods but `get` and `run` return at once and must
    be called from the event loop's thread.
    """

    def __init__(self, timers: Timers | None = None, backoff: Backoff[K] | None = None) -> None:
        self._timers: Timers = timers or asyncio.get_running_loop()
        self._backoff: Backoff[K] = backoff or Backoff()
        self._ready: asyncio.Queue[K | None] = asyncio.Queue()  # None: closed
        self._waiting: dict[K, float] = {}  # asked for since that time, not yet taken by a worker
        self._processing: set[K] = set()
        self._due: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []  # up to half of it may be outdated; `_due` is right
        self._order = itertools.count()
        self._timer: tuple[float, Any] | None = None
        self._closed = False
        self._turns = asyncio.Lock()
        self.on_wait: Callable[[float], None] = _ignore
        """Told how many seconds a key has waited, when a worker takes it."""

    def add(self, key: K) -> None:
        """Have the key processed as soon as a worker is free."""
        if self._closed or key in self._waiting:
            return
        self._waiting[key] = self._timers.time()
        if key not in self._processing:
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay: float) -> None:
        """Have the key processed in `delay` seconds, or earlier if it is already due earlier."""
        if delay <= 0:
            self.add(key)
            return
        due = self._timers.time() + delay
        if self._closed or (key in self._due and self._due[key][0] <= due):
            return
        self._due[key] = due, next(self._order)
        heapq.heappush(self._heap, (*self._due[key], key))
        self._drop_outdated()
        self._schedule()

    def add_rate_limited(self, key: K) -> float:
        """Have the key processed after its back-off; return that delay in seconds."""
        delay = self._backoff.next(key)
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """How often in a row the key was added with back-off."""
        return self._backoff.failures(key)

    def forget(self, key: K) -> None:
        """Reset the key's back-off after a success."""
        self._backoff.forget(key)

    def get_nowait(self) -> K:
        """Take the key that waited longest; the caller must call `done` with it.

        Raises:
            asyncio.QueueEmpty: No key is ready.
            QueueClosedError: The queue was closed.
        """
        return self._take(self._ready.get_nowait())

    async def get(self) -> K:
        """Wait for a key and take it; the caller must call `done` with it.

        Raises:
            QueueClosedError: The queue was closed.
        """
        return self._take(await self._ready.get())

    def done(self, key: K) -> None:
        """The key is no longer processed; if it was added meanwhile, it is ready again."""
        self._processing.discard(key)
        if key in self._waiting and not self._closed:
            self._ready.put_nowait(key)

    def close(self) -> None:
        """Hand out no more keys, take in no more; keys in process are finished by their workers."""
        self._closed = True
        if self._timer is not None:
            self._timer[1].cancel()
        self._ready.put_nowait(None)

    async def run(self, handle: Callable[[K], Awaitable[None]], workers: int) -> None:
        """Process keys with that many workers until the queue is closed.

        An exception of `handle` ends all workers and is raised: a worker that dies unseen is worse than a restart.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(handle), name=f"worker-{number}")

    async def _work(self, handle: Callable[[K], Awaitable[None]]) -> None:
        while True:
            # What waits for nothing never lets the event loop go on: all that is ready would be handled at a stretch.
            # So between two keys, of whichever workers, everything else has its turn.
            async with self._turns:
                await asyncio.sleep(0)
                try:
                    key = await self.get()
                except QueueClosedError:
                    return
            try:
                await handle(key)
            finally:
                self.done(key)

    @property
    def depth(self) -> int:
        """How many keys wait for a worker, delayed ones not counted."""
        return len(self._waiting)

    @property
    def processing(self) -> int:
        """How many keys are with a worker."""
        return len(self._processing)

    def oldest_wait(self) -> float:
        """Seconds for which the oldest waiting key has waited; 0 when none does."""
        return max(0.0, self._timers.time() - min(self._waiting.values())) if self._waiting else 0.0

    def _take(self, key: K | None) -> K:
        if key is None or self._closed:
            self._ready.put_nowait(None)  # for the next worker
            raise QueueClosedError
        self.on_wait(self._timers.time() - self._waiting.pop(key))
        self._processing.add(key)
        return key

    def _schedule(self) -> None:
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer[0] <= when:
                return
            self._timer[1].cancel()
        self._timer = (when, self._timers.call_at(when, self._fire))

    def _fire(self) -> None:
        self._timer = None
        now = self._timers.time()  # perhaps a tick too early: then nothing is due yet, and the timer is set again
        while self._heap and self._heap[0][0] <= now:
            due, order, key = heapq.heappop(self._heap)
            if self._due.get(key) == (due, order):
                del self._due[key]
                self.add(key)
        self._drop_outdated()
        if self._heap and not self._closed:
            self._schedule()

    def _drop_outdated(self) -> None:
        # A key that is brought forward leaves an entry behind for as long as it was to wait; ten minutes' add up.
        if len(self._heap) > 2 * len(self._due):
            self._heap = [(*due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)


def _ignore(_: float) -> None:
    """Take note of nothing."""
