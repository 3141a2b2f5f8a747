"""What is printed: colours on a terminal, plain text elsewhere, objects as JSON or YAML; nothing steers a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from enum import StrEnum
from typing import Any, Final, TextIO

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"} | {
    "magenta": "35",
    "cyan": "36",
}


class Format(StrEnum):
    """How an object is printed."""

    JSON = "json"
    YAML = "yaml"


class Paint:
    """Colours for words; without colours the words alone."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, style: str, text: str) -> str:
        """Return a text in a style such as green or bold."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.on and text else text


PLAIN: Final = Paint(False)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream, on something that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint_for(stream: TextIO) -> Paint:
    """Return the colours for a stream: none without a terminal, or where NO_COLOR is set (no-color.org)."""
    return Paint(is_terminal(stream) and not os.environ.get("NO_COLOR"))


def safe(text: str) -> str:
    """Return a text from elsewhere (rows, logs, messages) without what a terminal would act upon."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class OutputClosedError(Exception):
    """Whoever reads the output has seen enough: a pager, or head. No OSError: typer would end with 1."""


def show(text: str) -> None:
    """Print a text and end its line.

    Raises:
        OutputClosedError: nobody reads it.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosedError from None


def remark(text: str) -> None:
    """Print what is no part of the result: it goes to the standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def dumped(document: Any, form: Format) -> str:
    """Return an object, or a list of objects, as JSON or YAML, without the end of its last line."""
    if form is Format.JSON:
        return json.dumps(document, indent=2, ensure_ascii=False)
    import yaml  # only where it is asked for

    text: str = yaml.dump(document, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return text.rstrip("\n")


def columns(rows: list[list[str]], *, gap: int = 3) -> list[str]:
    """Return rows as lines whose columns stand below each other, as kubectl prints them. Cells have no colours."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        (" " * gap).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
