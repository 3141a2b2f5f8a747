"""Pods that do not answer, behind a NetworkPolicy or a mesh: asked less and less often, so that nobody waits for them.

ADR 0107 says what the user hears of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_PAUSE = 10.0  # seconds, doubled with each failure
_LONGEST_PAUSE = 300.0
_LASTING = 120.0  # seconds after which a silence is no matter of a start any more
_FORGOTTEN = 900.0  # seconds after a pause: if nobody has asked again, the address may be another pod's by now


@dataclass(frozen=True, slots=True)
class _Silence:
    since: float
    failures: int
    ask_again: float


class Silences:
    """Which addresses have not answered, since when, and when to ask them again."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._silences: dict[str, _Silence] = {}

    def may_ask(self, address: str) -> bool:
        """Whether it is time to ask that address."""
        silence = self._silences.get(address)
        return silence is None or self._now() >= silence.ask_again

    def is_lasting(self, address: str) -> bool:
        """Whether that address has been silent for a while."""
        silence = self._silences.get(address)
        return silence is not None and self._now() - silence.since >= _LASTING

    def answered(self, address: str) -> None:
        """It has answered."""
        self._silences.pop(address, None)

    def failed(self, address: str) -> None:
        """It has not answered, or not as it should."""
        now = self._now()
        self._silences = {a: s for a, s in self._silences.items() if now - s.ask_again < _FORGOTTEN}
        before = self._silences.get(address) or _Silence(now, 0, now)
        pause = min(_FIRST_PAUSE * 2 ** min(before.failures, 10), _LONGEST_PAUSE)
        self._silences[address] = _Silence(before.since, before.failures + 1, now + pause)
