"""What was last said about each of some things: one asks, and all that want to know meanwhile have the answer.

What nobody has asked for in a while is let go, with whatever it was about: namespaces, queues and resources come and
go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Answer(Generic[V]):
    """What was last said about one thing.

    Attributes:
        value: What was said; as long as nobody has asked, that nothing is known.
        stale_at: When it is to be asked again, by the monotonic clock.
        turn: To be held while asking.
    """

    value: V
    stale_at: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Answers(Generic[K, V]):
    """Answers by what they are about.

    Args:
        nothing: Makes the value that stands for "nothing known".
        kept: Seconds for which an answer stays that nobody wants; it goes when any other is wanted after that.
        now: Seconds of a monotonic clock.
    """

    def __init__(self, nothing: Callable[[], V], kept: float, now: Callable[[], float]) -> None:
        self._nothing, self._kept, self._now = nothing, kept, now
        self._answers: dict[K, tuple[float, Answer[V]]] = {}  # with when it was wanted; the last one comes last

    def about(self, thing: K) -> Answer[V]:
        """Return the answer about a thing, for who has it to ask again when it is stale."""
        now = self._now()
        answer = self._answers.pop(thing)[1] if thing in self._answers else Answer(self._nothing())
        self._answers[thing] = now, answer
        while now - self._answers[oldest := next(iter(self._answers))][0] > self._kept:
            del self._answers[oldest]
        return answer

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._answers)
