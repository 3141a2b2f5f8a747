"""Keys that cost no waiting do not keep the event loop: a Lease has to be renewed and probes answered meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from qwensft_operator.runtime.queue import WorkQueue

KEYS, WORKERS = 200, 8


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a request"])
async def test_the_event_loop_goes_on_between_two_keys(*, waits: bool) -> None:
    queue: WorkQueue[int] = WorkQueue()
    since_the_loop_went_on, longest, handled = 0, 0, 0

    async def handle(_: int) -> None:
        nonlocal since_the_loop_went_on, longest, handled
        if waits:
            await asyncio.sleep(0.001)
        handled += 1
        since_the_loop_went_on += 1
        longest = max(longest, since_the_loop_went_on)
        if handled == KEYS:
            queue.close()

    async def others() -> None:
        nonlocal since_the_loop_went_on
        while handled < KEYS:
            since_the_loop_went_on = 0
            await asyncio.sleep(0)

    for key in range(KEYS):
        queue.add(key)
    await asyncio.wait_for(asyncio.gather(queue.run(handle, WORKERS), others()), 30)
    assert handled == KEYS
    assert longest <= (WORKERS if waits else 1)


async def test_all_workers_are_at_work_at_once() -> None:
    queue: WorkQueue[int] = WorkQueue()
    at_work, all_at_work = 0, asyncio.Event()

    async def handle(_: int) -> None:
        nonlocal at_work
        at_work += 1
        if at_work == WORKERS:
            all_at_work.set()
            queue.close()
        await all_at_work.wait()

    for key in range(WORKERS):
        queue.add(key)
    await asyncio.wait_for(queue.run(handle, WORKERS), 30)
    assert at_work == WORKERS
