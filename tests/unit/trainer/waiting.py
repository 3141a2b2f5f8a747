"""Waiting for what a thread of the test does a moment later."""

from __future__ import annotations

import time
from collections.abc import Callable

_sleep = time.sleep  # tests replace time.sleep


def eventually(true: Callable[[], bool]) -> None:
    """Fail unless it becomes true within 60 s."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        _sleep(0.01)
