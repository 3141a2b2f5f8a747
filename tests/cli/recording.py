"""Compares what commands print with what the documents show; what a cluster says may take a while to settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.docs import recorded_blocks

REPOSITORY = Path(__file__).parents[2]
COMMANDS = REPOSITORY / "docs" / "cli.md"
WHY = REPOSITORY / "docs" / "why.md"
TUTORIAL = REPOSITORY / "docs" / "tutorial-cli.md"
_PATIENCE = 90.0  # seconds
_BETWEEN = 5.0
_PASSING = "being deleted"


def compare(page: Path, name: str, read: Callable[[], str]) -> None:
    """Compare an output with the block of a page, or write the block anew.

    Args:
        page: The page.
        name: The block on it.
        read: Gives the command. It is called until it prints what is shown, or what is to be shown twice: a pod goes
            back and forth between ErrImagePull and ImagePullBackOff, and is there for a while after its end.
    """
    wanted = None if recorded_blocks.updates() else recorded_blocks.normalised(recorded_blocks.shown(page, name))
    before: list[str] | None = None
    deadline = time.monotonic() + _PATIENCE
    while True:
        text = read()
        now = recorded_blocks.normalised(text)
        if now == (before if wanted is None else wanted) and _PASSING not in text:
            return recorded_blocks.compare(page, name, text)
        if time.monotonic() > deadline:
            pytest.fail(f"{name} is not as {page.name} shows it, or does not settle:\n{text}\n{now}\n{wanted}")
        before = now
        time.sleep(_BETWEEN)
