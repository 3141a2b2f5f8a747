"""Does work in several processes and gives the results in order, holding a bounded number of them.

The processes are forked, so what the work needs is inherited and not copied; items and results are pickled. How many
there are follows from the pod's CPUs and its memory; ADR 0090 has the sums.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from qwensft_trainer.base.environment import cpu_limit, memory_limit
from qwensft_trainer.contract.child import sendable
from qwensft_trainer.contract.errors import StageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_MEMORY_OF_A_PROCESS = 512 << 20  # with the longest row; one more is for what they share


def most(asked: int | None = None) -> int:
    """How many processes there may be: `asked`, else one for each CPU; no more than the pod's memory has room for."""
    return max(1, min(asked or cpu_limit(), memory_limit() // _MEMORY_OF_A_PROCESS - 1))


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    here: Callable[[Item], bool] = lambda _: False,
) -> Iterator[Result]:
    """Yield what `work` gives for each item, in the items' order; with one worker all is done in this process.

    An item of which `here` is true is done in this process, too: it is too large to be sent. Ends all processes when
    one fails, and raises what `work` raised there, or StageError when it was killed.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    pool = _Pool(work, workers)
    try:
        yield from pool.results(iter(items), here)
    finally:
        pool.end()


class _Pool:
    def __init__(self, work: Callable[[Any], Any], count: int) -> None:
        self._work = work
        self._most_ahead = 2 * count
        self._processes: dict[Connection, Any] = {}
        fork = multiprocessing.get_context("fork")
        for _ in range(count):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=_serve, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()
            self._processes[ours] = process
        self._idle = list(self._processes)
        self._running: dict[Connection, int] = {}
        self._done: dict[int, Any] = {}

    def results(self, items: Iterator[Any], here: Callable[[Any], bool]) -> Iterator[Any]:
        sent = given = 0
        are_left = True
        while are_left or self._running or self._done:
            while are_left and self._idle and sent - given < self._most_ahead:
                try:
                    item = next(items)
                except StopIteration:
                    are_left = False
                    break
                if here(item):
                    self._done[sent] = self._work(item)
                else:
                    self._send(item, sent)
                sent += 1
            if given in self._done:
                yield self._done.pop(given)
                given += 1
            elif self._running:
                for ready in wait(list(self._running)):
                    self._receive(cast("Connection", ready))

    def _send(self, item: Any, number: int) -> None:
        worker = self._idle.pop()
        try:
            worker.send(item)
        except BrokenPipeError:
            raise self._killed(worker) from None
        self._running[worker] = number

    def _receive(self, worker: Connection) -> None:
        try:
            failed, result = worker.recv()
        except (EOFError, ConnectionResetError):
            raise self._killed(worker) from None
        if failed:
            raise result
        self._done[self._running.pop(worker)] = result
        self._idle.append(worker)

    def _killed(self, worker: Connection) -> StageError:
        process = self._processes[worker]
        process.join()
        return StageError(
            "PreparationFailed",
            f"A process that reads or encodes rows ended with exit code {process.exitcode}; -9 is mostly want of "
            "memory. Raise memory in spec.prepare.resources.limits, or lower its cpu: there is a process for each.",
        )

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()


def _serve(work: Callable[[Any], Any], connection: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the stage's handler is for its own process
    while True:
        item = connection.recv()
        try:
            answer = (False, work(item))
        except BaseException as error:  # it is raised again where the stage can tell it
            answer = (True, sendable(error))
        connection.send(answer)
