"""The time by the API server's clock, by which Kubernetes dates its objects: decisions compare such times with now.

ADR 0112 says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# A header tells whole seconds, of a moment that is past by as long as the answer took.
_INEXACT = timedelta(seconds=5)


def _wall() -> datetime:
    return datetime.now(UTC)


class ServerClock:
    """Goes on by the machine's monotonic clock from what the API server said last; until then it is the machine's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], datetime] = _wall) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._heard: tuple[datetime, float] | None = None
        self._latest = ""

    def heard(self, date: str) -> None:
        """An answer has come with this Date header (RFC 9110); one that is none is ignored."""
        if date == self._latest:  # hundreds of answers may come in a second
            return
        self._latest = date
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return
        if told.tzinfo is None:
            return
        # Within what a header can be wrong by, the clock goes on evenly.
        if self._heard is None or abs(told - self.now()) > _INEXACT:
            self._heard = told, self._monotonic()

    def now(self) -> datetime:
        """Return the time, aware (UTC)."""
        if self._heard is None:
            return self._wall()
        told, at = self._heard
        return told + timedelta(seconds=self._monotonic() - at)
