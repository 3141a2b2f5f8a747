"""Why a text is no JSON, with the fix where the error tells what was meant. Nothing of the text is quoted."""

from __future__ import annotations

import json
import re

from qwensft_trainer.data.first_bytes import NOT_UTF8

_OF_PYTHON = re.compile(r"'|None\b|True\b|False\b")
_TYPOGRAPHIC = "“”„‟‘’‚«»"  # what word processors make of quotes
_LINES_OF_PYTHON = "[print(json.dumps(ast.literal_eval(row))) for row in sys.stdin]"
_ALL_OF_PYTHON = "json.dump(ast.literal_eval(sys.stdin.read()), sys.stdout)"
_FIXES = {
    "Invalid \\escape": "a backslash in a text is written twice",
    "Invalid control character": "line breaks and tabs in a text are written as \\n and \\t",
    "Expecting ',' delimiter": "a comma is missing, or a quote in a text has no backslash before it",
}


def why(error: Exception, line: bytes) -> str:
    """Why a line is no row."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} of the line is not valid UTF-8; {NOT_UTF8}"
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if line.rstrip().endswith(b"},"):
        return "there is a comma after the row: a line of JSON Lines ends with the row's '}'"
    if isinstance(error, json.JSONDecodeError):
        if error.msg == "Extra data" and error.doc[error.pos] in "{[":
            return "the line holds several rows: was a line break lost between them, as where files were joined?"
        return f"not valid JSON at column {error.colno} ({error.msg}){fix(error, array=False)}"
    return f"not readable JSON ({error!s:.100})"  # a number with thousands of digits


def fix(error: json.JSONDecodeError, *, array: bool) -> str:
    """What to change, to follow the error; "" where nothing is likely. `array` tells of rows in an array."""
    if error.msg.startswith("Expecting") and _OF_PYTHON.match(error.doc, error.pos):
        code = _ALL_OF_PYTHON if array else _LINES_OF_PYTHON
        return (
            ": it is written as Python prints it, not as json.dumps writes it; "
            f'`python3 -c "import ast, json, sys; {code}" < OLD > NEW` mends that'
        )
    if error.msg.startswith("Expecting") and error.doc[error.pos : error.pos + 1] in tuple(_TYPOGRAPHIC):
        return ": it has typographic quotes; write straight ones around keys and texts"
    return next((f": {text}" for start, text in _FIXES.items() if error.msg.startswith(start)), "")
