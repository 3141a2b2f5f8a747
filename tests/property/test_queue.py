"""The work queue against a model that is too simple to be wrong, over random interleavings and times."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qwensft_operator.runtime.queue import Backoff, QueueClosedError, WorkQueue

KEYS = st.sampled_from(["a", "b", "c", "d"])
# Few distinct times, so that coincidences happen.
DELAYS = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0])


class FakeTimers:
    """A clock that stands still until it is moved, and fires what is due on its way."""

    class Handle:
        def __init__(self) -> None:
            self.cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    def __init__(self) -> None:
        self.now = 1000.0
        self._calls: list[tuple[float, int, Callable[[], None], FakeTimers.Handle]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle:
        handle = FakeTimers.Handle()
        heapq.heappush(self._calls, (when, next(self._order), callback, handle))
        return handle

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while self._calls and self._calls[0][0] <= end:
            when, _, callback, handle = heapq.heappop(self._calls)
            self.now = max(self.now, when)
            if not handle.cancelled:
                callback()
        self.now = end


class QueueMachine(RuleBasedStateMachine):
    """`waiting` maps keys to when they were asked for, in the order in which they must come out."""

    @initialize()
    def start(self) -> None:
        self.timers = FakeTimers()
        self.queue: WorkQueue[str] = WorkQueue(self.timers, Backoff(base=1, cap=60, jitter=lambda: 0))
        self.waiting: dict[str, float] = {}
        self.ready: list[str] = []
        self.processing: set[str] = set()
        self.due: dict[str, float] = {}
        self.failures: dict[str, int] = {}

    def _model_add(self, key: str, when: float) -> None:
        if key not in self.waiting:
            self.waiting[key] = when
            if key not in self.processing:
                self.ready.append(key)

    def _model_add_after(self, key: str, delay: float) -> None:
        if delay <= 0:
            self._model_add(key, self.timers.now)
        elif self.timers.now + delay < self.due.get(key, float("inf")):
            self.due.pop(key, None)  # keys that are due at the same time come in the order in which that was settled
            self.due[key] = self.timers.now + delay

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self._model_add(key, self.timers.now)

    @rule(key=KEYS, delay=DELAYS)
    def add_after(self, key: str, delay: float) -> None:
        self.queue.add_after(key, delay)
        self._model_add_after(key, delay)

    @rule(key=KEYS)
    def add_rate_limited(self, key: str) -> None:
        delay = self.queue.add_rate_limited(key)
        assert delay == min(60, 2 ** self.failures.get(key, 0))
        self.failures[key] = self.failures.get(key, 0) + 1
        self._model_add_after(key, delay)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.timers.now + seconds
        self.timers.move(seconds)
        for key, due in sorted(self.due.items(), key=lambda item: item[1]):
            if due <= until:
                del self.due[key]
                self._model_add(key, due)

    @precondition(lambda self: self.ready)
    @rule()
    def take(self) -> None:
        key = self.queue.get_nowait()
        assert key not in self.processing, "two workers have the same key"
        assert key == self.ready.pop(0)
        del self.waiting[key]
        self.processing.add(key)

    @precondition(lambda self: not self.ready)
    @rule()
    def nothing_to_take(self) -> None:
        with pytest.raises(asyncio.QueueEmpty):
            self.queue.get_nowait()

    @precondition(lambda self: self.processing)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.processing)))
        self.queue.done(key)
        self.processing.remove(key)
        if key in self.waiting:
            self.ready.append(key)

    @invariant()
    def depth_and_age_agree(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.depth == len(self.waiting)
            oldest = self.timers.now - min(self.waiting.values(), default=self.timers.now)
            assert self.queue.oldest_wait() == pytest.approx(oldest, abs=0.01)

    @invariant()
    def at_most_half_of_what_is_kept_is_outdated(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue._heap) <= 2 * len(self.due)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.queue.close()
        with pytest.raises(QueueClosedError):
            self.queue.get_nowait()


QueueMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestQueue = QueueMachine.TestCase


def test_an_outdated_delay_does_not_bring_a_later_one_forward() -> None:
    timers = FakeTimers()
    queue: WorkQueue[str] = WorkQueue(timers)
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    timers.move(5)
    queue.done(queue.get_nowait())
    queue.add_after("a", 20)
    timers.move(19)
    assert queue.depth == 0
    timers.move(1)
    assert queue.depth == 1


def test_keys_that_are_brought_forward_again_and_again_leave_nothing_behind() -> None:
    timers = FakeTimers()
    queue: WorkQueue[int] = WorkQueue(timers)
    for _ in range(50):
        for key in range(100):
            queue.add_after(key, 600)  # the next look at everything
            queue.add_after(key, 0.1)  # an event
        timers.move(1)
        while queue.depth:
            queue.done(queue.get_nowait())
    assert len(queue._heap) <= 200


async def test_no_key_is_lost_or_doubled_among_concurrent_workers() -> None:
    queue: WorkQueue[int] = WorkQueue()
    busy: set[int] = set()
    seen: dict[int, int] = {}

    async def handle(key: int) -> None:
        assert key not in busy
        busy.add(key)
        await asyncio.sleep(0.001 * (key % 3))
        busy.remove(key)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] < 3:
            queue.add_after(key, 0.001)
        if len(seen) == 50 and min(seen.values()) == 3:
            queue.close()

    for key in range(50):
        queue.add(key)
        queue.add(key)
    await asyncio.wait_for(queue.run(handle, workers=8), timeout=60)

    assert seen == dict.fromkeys(range(50), 3)


async def test_a_failing_handler_ends_all_workers() -> None:
    queue: WorkQueue[str] = WorkQueue()

    async def handle(key: str) -> None:
        raise RuntimeError(key)

    queue.add("a")
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(queue.run(handle, workers=4), timeout=60)
    assert caught.group_contains(RuntimeError, match="a")


async def test_closing_lets_a_pass_under_way_finish_and_starts_no_other() -> None:
    queue: WorkQueue[str] = WorkQueue()
    finished: list[str] = []
    begun = asyncio.Event()

    async def handle(key: str) -> None:
        begun.set()
        await asyncio.sleep(0.01)
        finished.append(key)

    queue.add("under way")
    queue.add("waiting")
    workers = asyncio.create_task(queue.run(handle, workers=1))
    await begun.wait()
    queue.close()
    await asyncio.wait_for(workers, timeout=60)
    assert finished == ["under way"]
