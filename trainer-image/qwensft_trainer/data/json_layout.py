"""Mistakes in the layout of a file that should be JSON Lines: one cause that every line shares, told once.

Lines are read in json_rows.py.
"""

from __future__ import annotations

import json
import re

_UNTERMINATED = "Unterminated string"
_SCALAR = r'"[^"]*"\s*:\s*(?:"[^"]*"|[-\w.]+)\s*,\s*'
_WRAPPED = re.compile(rf'\s*\{{\s*(?:{_SCALAR})*"([^"]*)"\s*:\s*\[\s*\{{\s*"([^"]*)"')
# Columns and keys of messages: a row of one conversation looks like rows inside of another object.
_OF_ROWS = frozenset({"conversations", "messages", "tools", "history", "images", "videos"})
_OF_MESSAGES = frozenset({"from", "value", "role", "content"})


def wrapped(text: str) -> str | None:
    """The rows are inside of another object, which begins with `text`."""
    found = _WRAPPED.match(text)
    if found is None or found[1] in _OF_ROWS or found[2] in _OF_MESSAGES:
        return None
    key = found[1]
    return f"the rows are inside of '{key}': the file must hold the array itself, as `jq .{key} OLD > NEW` writes it"


def broken(first: str, *, has_more: bool) -> str | None:
    """The first line is no JSON, in a way that all lines will be."""
    try:
        _, end = json.JSONDecoder().raw_decode(first)
    except (ValueError, RecursionError):
        if not first.startswith("{"):
            return "the first line is no JSON object; rows are JSON, or CSV and TSV in files named .csv or .tsv"
        if has_more and _continues(first):
            return (
                "a row goes over several lines: write one object per line, as `jq -c . OLD > NEW` does, or one array "
                "of all rows"
            )
        return None
    rest = first[end:].strip()
    if rest == ",":
        return "the lines end with commas: take them off, or put [ before the rows and ] after them to make an array"
    return "a line holds several objects: write one per line, as `jq -c . OLD > NEW` does" if rest else None


def _continues(line: str) -> bool:
    """Whether a line is the beginning of an object and no more."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) or error.msg.startswith(_UNTERMINATED)
    except (ValueError, RecursionError):
        pass
    return False
