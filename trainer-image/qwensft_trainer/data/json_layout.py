"""Mistakes in the layout of a JSON file: one cause that all rows share, told once with the command that mends it.

Rows are read in json_rows.py; what a single one must contain is checked in row_checks.py.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from qwensft_trainer.data.layout import QUESTIONS

BEGINNING = 1 << 20
"""So many characters of a file are enough to judge it by."""

SEVERAL_LINES = (
    "a row goes over several lines: write one object per line, as `jq -c . OLD > NEW` does, or one array of all rows"
)

_UNTERMINATED = "Unterminated string"
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\],]', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)

# What published datasets call the parts of a row, its messages, their keys, and the lists of rows around.
_TEXTS = frozenset((*QUESTIONS, "output", "response", "completion", "answer", "solution", "target", "chosen"))
_TALKS = frozenset(
    ("conversations", "conversation", "messages", "dialog", "dialogue", "turns", "history", "chat", "chat_history")
)
_ROLES = frozenset(("role", "from", "speaker", "sender", "author"))
_MESSAGES = {("role", "content"): "messages", ("from", "value"): "conversations"}
_OF_ROWS = frozenset(
    (
        *("data", "dataset", "rows", "examples", "samples", "items", "records", "entries", "instances", "results"),
        *("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation"),
        *("train_sft", "test_sft"),
    )
)

_TRANSPOSED = "`jq -c '(first(.[]) | keys_unsorted[]) as $i | map_values(.[$i])' OLD > NEW` makes rows of them"
_OF_PANDAS = (
    "`jq -c '.columns as $names | .data[] | [$names, .] | transpose | map({(.[0]): .[1]}) | add' OLD > NEW` makes rows"
)


def of_first(value: Any, columns: Collection[str], *, array: bool, alone: bool = False) -> str | None:
    """What is wrong with all rows, to judge by the first: of an array or of lines, perhaps `alone` in its file.

    `columns` are those that the dataset's rows are read from.
    """
    if isinstance(value, list):
        if not array or not (name := _conversation(value)):
            return None
        return (
            "the rows are lists of messages, without an object around: "
            f"`jq 'map({{{name}: .}})' OLD > NEW` makes objects of them"
        )
    if not isinstance(value, dict):
        return None
    if (name := _message(value)) and not value.keys() & {*columns, *_TALKS}:
        command = f"`jq '[{{{name}: .}}]' OLD > NEW`" if array else f"`jq -s -c '{{{name}: .}}' OLD > NEW`"
        return (
            "the rows are single messages, and a row is a whole conversation: if the file is one, "
            f"{command} makes a row of it"
        )
    return _by_column(value, columns) or (document(value, columns) if alone else None)


def of_lines(text: str) -> str | None:
    """The file is lines of arrays, not one array; `text` is its beginning."""
    try:
        first, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(first, list) or not text[end:].lstrip().startswith("["):
        return None
    if name := _conversation(first):
        what, command = "of messages, without an object around", f"`jq -c '{{{name}: .}}' OLD > NEW` makes rows of them"
    elif first and isinstance(first[0], dict):
        what, command = "with rows inside", "`jq -c '.[]' OLD > NEW` takes them out"
    else:
        what = "without the names of columns"
        command = "give them, such as `jq -c '{instruction: .[0], output: .[1]}' OLD > NEW` does"
    return f"every line is an array {what}: {command}"


def document(value: Mapping[str, Any], columns: Collection[str]) -> str | None:
    """The one object that the file is, or its beginning, holds rows and is none."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list) and "index" in value:
        return f"the file is a table as pandas writes it with orient='split': {_OF_PANDAS}"
    if problem := _by_column(value, columns):
        return problem
    texts, values = {*_TEXTS, *columns}, list(value.values())
    if any(isinstance(value.get(name), str) for name in texts) or any(map(_conversation, values)):
        return None
    if value and all(isinstance(one, dict) and _is_row(one, texts) for one in values):
        return "the rows are the values of one object: `jq -c '.[]' OLD > NEW` takes them out"
    return _wrapped(value, columns)


def begun(text: str, columns: Collection[str]) -> str | None:
    """The same for the `text` that a file begins with, when its first line is no row."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        if text[end:].strip():
            return None
    except (ValueError, RecursionError):
        value = _as_far_as_it_goes(text)
    return document(value, columns) if isinstance(value, dict) else None


def broken(first: str) -> str | None:
    """The first line is no JSON, in a way that all lines will be."""
    try:
        _, end = json.JSONDecoder().raw_decode(first)
    except (ValueError, RecursionError):
        is_object = first.startswith("{")
        return (
            None
            if is_object
            else "the first line is no JSON object; rows are JSON, or CSV and TSV in files named .csv or .tsv"
        )
    rest = first[end:].strip()
    if rest == ",":
        return "the lines end with commas: take them off, or put [ before the rows and ] after them to make an array"
    return "a line holds several objects: write one per line, as `jq -c . OLD > NEW` does" if rest else None


def continues(line: str) -> bool:
    """Whether a line is the beginning of an object and no more."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) or error.msg.startswith(_UNTERMINATED)
    except (ValueError, RecursionError):
        pass
    return False


def _by_column(value: Mapping[str, Any], columns: Collection[str]) -> str | None:
    """Every column is a list of its values, or an object of them by number, as pandas writes by itself."""
    values = list(value.values())
    if not value.keys() & {*columns, *_TEXTS, *_TALKS}:
        return None
    if all(isinstance(one, list) and one and not isinstance(one[0], dict) for one in values):
        cells = [one[0] for one in values]
        is_table = any(isinstance(cell, str) or (isinstance(cell, list) and _conversation(cell)) for cell in cells)
    else:
        is_table = all(isinstance(one, dict) and one and all(map(str.isdigit, one)) for one in values)
    return (
        f"every column is {'a list' if isinstance(values[0], list) else 'an object'} of all its values: {_TRANSPOSED}"
        if is_table
        else None
    )


def _wrapped(value: Mapping[str, Any], columns: Collection[str]) -> str | None:
    lists = {key: rows[0] for key, rows in value.items() if isinstance(rows, list) and rows}
    inside = {key: first for key, first in lists.items() if isinstance(first, dict) and first}
    sure = [key for key, row in inside.items() if _is_wrapping(key, row, columns)]
    if len(sure) > 1:
        names = ", ".join(f"'{key}'" for key in sure[:-1])
        return (
            f"the rows are inside of {names} and '{sure[-1]}': a file holds one array, so take out one of them, as "
            f"`jq {_path(sure[0])} OLD > NEW` does"
        )
    if sure:
        return (
            f"the rows are inside of '{sure[0]}': the file must hold the array itself, as `jq {_path(sure[0])} OLD > "
            "NEW` writes it"
        )
    key = next((key for key in inside if key not in columns), None)
    if key is None or not columns:
        return None
    return (
        f"'{key}' is a list of objects: if they are the rows, `jq {_path(key)} OLD > NEW` takes them out; if they are "
        f"the messages of one row, set columns.messages to '{key}', and tags.role and tags.content to their keys"
    )


def _is_wrapping(key: str, row: Mapping[str, Any], columns: Collection[str]) -> bool:
    """Whether a list under `key` that begins with `row` can be nothing but rows."""
    if any(map(_conversation, row.values())):
        return True
    if key in columns:
        return False
    return key.lower() in _OF_ROWS or (key.lower() not in _TALKS and _is_row(row, {*_TEXTS, *columns}))


def _is_row(value: Mapping[str, Any], texts: Collection[str]) -> bool:
    return any(name in texts or name.lower() in texts for name in value) or any(map(_conversation, value.values()))


def _conversation(value: Any) -> str | None:
    """The usual name of a column of such messages; None for anything but a list of messages."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return None
    return _message(value[0]) or ("messages" if value[0].keys() & _ROLES and not value[0].keys() & _TEXTS else None)


def _message(value: Mapping[str, Any]) -> str | None:
    return next((name for keys, name in _MESSAGES.items() if value.keys() >= set(keys)), None)


def _path(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else shlex.quote(f".[{json.dumps(key, ensure_ascii=False)}]")


def _as_far_as_it_goes(text: str) -> Any:
    """The value that a text begins, up to the last comma behind which it can be closed."""
    closing: list[str] = []
    whole, closed = 0, ""
    for token in _TOKEN.finditer(text):
        if token[0] == '"':  # one that does not end
            break
        if token[0] in _CLOSING:
            closing.append(_CLOSING[token[0]])
        elif token[0] == ",":
            whole, closed = token.start(), "".join(reversed(closing))
        elif token[0] in _CLOSING.values() and closing:
            closing.pop()
    try:
        return json.loads(text[:whole] + closed)
    except (ValueError, RecursionError):
        return None
