"""Text of others, before it gets into a status, an event or a log."""

from __future__ import annotations

import re

LONGEST_TEXT = 4096  # characters: a message of the status holds a few of them

# Escape sequences move a terminal's cursor, and overrides of direction turn round what is read.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(value: object, limit: int = LONGEST_TEXT) -> str:
    """Return what a status can hold and a terminal can show: no halves of characters, control characters escaped."""
    text = str(value)[:limit].encode(errors="replace").decode()
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)[:limit]


def one_line(value: object, limit: int = LONGEST_TEXT) -> str:
    """Return the same in one line, spaces in place of line breaks."""
    return clean(" ".join(str(value)[:limit].split()), limit)
