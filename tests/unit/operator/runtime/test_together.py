"""Requests side by side: a failure leaves none of the others behind."""

import asyncio

import pytest

from qwensft_operator.runtime.together import together

from .fakes import in_virtual_time


async def _answer(value: int) -> int:
    await asyncio.sleep(value)
    return value


@in_virtual_time
async def test_answers_come_in_the_order_of_the_questions() -> None:
    assert await together(_answer(3), _answer(1), _answer(2)) == (3, 1, 2)


@in_virtual_time
async def test_a_failure_cancels_what_else_is_under_way() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def refused() -> None:
        await asyncio.sleep(1)
        raise KeyError("refused")

    with pytest.raises(KeyError):
        await together(slow(), refused(), slow())
    assert ended == ["cancelled"] * 2
    assert asyncio.get_running_loop().time() < 2


@in_virtual_time
async def test_a_time_limit_ends_all() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await together(_answer(10), _answer(20))
    assert len(asyncio.all_tasks()) == 1
