"""What may fail without stopping a pass: reads that only inform, writes that are a courtesy.

ADR 0060 says why.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

from qwensft_operator.runtime.kube import KubeError

T = TypeVar("T")

logger = logging.getLogger(__name__)


class BestEffort:
    """Turns failures into an answer of "nothing known".

    Each kind of failure is logged once until it has passed, and at DEBUG meanwhile.
    """

    def __init__(self) -> None:
        self._logged: set[tuple[str, str, int]] = set()

    async def attempt(self, what: str, doing: Awaitable[T], otherwise: T) -> T:
        """Await something; whatever exception it raises, return `otherwise`.

        Cancellation passes through, and with it the time limit of the pass.

        Args:
            what: Names it in the log, in the plural: "events of pods".
            doing: What to await.
            otherwise: The answer when it fails.
        """
        try:
            answer = await doing
        except Exception as error:
            kind = (what, type(error).__name__, error.status if isinstance(error, KubeError) else 0)
            level = logging.DEBUG if kind in self._logged else logging.WARNING
            self._logged.add(kind)
            # A refusal explains itself; anything else is a fault of ours or of the object, and needs its place.
            logger.log(
                level,
                "going on without %s: %s",
                what,
                str(error) or type(error).__name__,
                exc_info=None if isinstance(error, KubeError) else error,
            )
            return otherwise
        self._logged = {kind for kind in self._logged if kind[0] != what}  # the next failure is news again
        return answer
