"""What blocks, to be awaited: each call, and each iteration, in a thread of its own.

asyncio's default executor has a handful of threads, and its end waits for theirs: a wait for a run holds one for hours.
These end with the process, and who cancels an iteration has its thread end with the item that it waits for (ADR 0183).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Awaited(Generic[B_co]):
    """Has an object that blocks, whose methods it offers to await."""

    def __init__(self, blocking: B_co) -> None:
        self._blocking = blocking


def awaited(method: Callable[Concatenate[B, P], T]) -> Callable[Concatenate[Awaited[B], P], Coroutine[Any, Any, T]]:
    """Return a method of the blocking object as one to await, with the same arguments."""

    @functools.wraps(method)
    async def call(self: Awaited[B], /, *args: P.args, **kwargs: P.kwargs) -> T:
        thread = _Thread()
        try:
            return await thread.do(functools.partial(method, self._blocking, *args, **kwargs))
        finally:
            thread.end()

    return call


def iterated(
    method: Callable[Concatenate[B, P], Iterator[T]],
) -> Callable[Concatenate[Awaited[B], P], AsyncIterator[T]]:
    """Return a method that yields as one to iterate with `async for`, with the same arguments."""

    @functools.wraps(method)
    def call(self: Awaited[B], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return _each(functools.partial(method, self._blocking, *args, **kwargs))

    return call


async def _each(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    thread, end = _Thread(), object()
    iterator: Iterator[T] = iter(())
    try:
        iterator = await thread.do(start)
        while (item := await thread.do(functools.partial(next, iterator, end))) is not end:
            yield cast("T", item)
    finally:
        thread.end(getattr(iterator, "close", None))


class _Thread:
    """Does one thing after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._last: Callable[[], object] | None = None
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), daemon=True, name="qwensft").start()

    async def do(self, call: Callable[[], T]) -> T:
        """Return what a call returns."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._asked.put((call, answer))
        return await answer

    def end(self, last: Callable[[], object] | None = None) -> None:
        """Let it end after what it does, and a last call whose answer nobody waits for."""
        self._last = last
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, answer = asked
            try:
                tell = functools.partial(answer.set_result, call())
            except BaseException as error:  # whoever awaits it is told
                tell = functools.partial(answer.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_told, answer, tell)
        if self._last is not None:
            self._last()


def _told(answer: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    if not answer.done():  # whoever awaited it has been cancelled
        tell()
