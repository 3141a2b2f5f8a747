"""Awaiting several things at once, as `asyncio.gather` does; when one fails, the others are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

__all__ = ["together"]

if TYPE_CHECKING:
    from asyncio import gather as together  # for its types
else:

    async def together(*doing: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
        """Return all results, in order; what fails first is raised when nothing of the others is under way any more."""
        tasks = [asyncio.ensure_future(one) for one in doing]
        try:
            return tuple(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
