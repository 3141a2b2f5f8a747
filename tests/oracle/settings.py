"""How many documents are drawn: the same ones every time, for less than a minute, unless somebody asks for more."""

from __future__ import annotations

import os
import time

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("ORACLE_EXAMPLES")
_SECONDS = 25.0  # for each of two tests

EXAMPLES = settings(
    max_examples=int(_ASKED or 300),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Deadline:
    """Ends a test early on a busy machine: what it has not drawn by then is left to the next."""

    def __init__(self) -> None:
        self._at = time.monotonic() + (_SECONDS if _ASKED is None else float("inf"))

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._at
