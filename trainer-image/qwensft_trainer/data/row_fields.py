"""Reads single fields of a dataset's row: text, lists, tool descriptions, images. What is wrong becomes a RowProblem.

Cells of CSV and Parquet files may hold lists as JSON text. How fields make a conversation is decided in row_checks.py.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

# An image or a video as a row gives it: its bytes, or the name of a file.
Media = str | bytes

_SHOWN_KEYS = 10
_NAME_CHARACTERS = 40
_WORD = re.compile(r"[\w-]{1,24}")
_FILE_NAME = re.compile(r"[^\s\"'<>|:*?]{1,120}\.\w{1,8}")
TOOL_EXAMPLE = '{"name": "weather", "description": "...", "parameters": {...}}'
_OF_NUMPY = re.compile(r"\}\s+\{|\barray\(")
_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    bytes: "binary data",
    dict: "an object",
    list: "a list",
}


ELSE = "list it under the dataset's ignore"
"""What to do about a name that means something else."""


class RowProblem(Exception):  # noqa: N818  # it becomes a line of a message
    """Why a row cannot be used, with the fix, without naming the row."""


def text(row: Mapping[str, Any], column: str | None, *, need: str | None = None) -> str:
    """The text in a column; "" when the column is optional (no `need`) and missing or null."""
    value = row.get(column) if column else None
    if value is None:
        if need is None:
            return ""
        if column in row:
            raise RowProblem(f"field '{column}' is null; {need}")
        raise RowProblem(f"field '{column}' is missing; {need}{_keys_of(row)}")
    if not isinstance(value, str):
        raise RowProblem(f"field '{column}' is {kind(value)}; expected text")
    return value


def sequence(value: Any, column: str, expected: str) -> list[Any]:
    """A list, also one written as JSON text; [] for null and "". `expected` says of what, such as "of messages"."""
    if value is None or value == "":
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowProblem(
                f"field '{column}' is not valid JSON ({error}); expected a list {expected}{_of_python(value, column)}"
            ) from error
    if isinstance(value, dict) and value and all(isinstance(field, list) for field in value.values()):
        code = f"d['{column}'].map(lambda m: [dict(zip(m, t)) for t in zip(*m.values())])"
        raise RowProblem(
            f"field '{column}' is an object of lists, as Sequence of the library datasets stores it; expected a list "
            f"{expected}: in Parquet, `python3 -c \"import pandas; d = pandas.read_parquet('OLD'); d['{column}'] = "
            f"{code}; d.to_parquet('NEW')\"` mends that"
        )
    if not isinstance(value, list):
        raise RowProblem(f"field '{column}' is {kind(value)}; expected a list {expected}")
    return value


def _of_python(value: str, column: str) -> str:
    """How to write a list anew that is text, but not JSON; "" where nothing is likely."""
    if "'" not in value[:100]:
        return ""
    if _OF_NUMPY.search(value):
        return (
            ": it is written as numpy prints it, which nothing reads; write the file anew as JSON Lines, as "
            "DataFrame.to_json('NEW', orient='records', lines=True) of pandas does"
        )
    code = f"d['{column}'] = d['{column}'].map(ast.literal_eval).map(json.dumps)"
    return (
        ': it is written as Python prints it; in CSV, `python3 -c "import ast, json, pandas; d = '
        f"pandas.read_csv('OLD'); {code}; d.to_csv('NEW', index=False)\"` mends that"
    )


def tools(row: Mapping[str, Any], column: str | None) -> tuple[str, str]:
    """Tool descriptions as the JSON text of a list in OpenAI's form, and what was text but no JSON instead."""
    value = row.get(column) if column else None
    if isinstance(value, str):
        plain = value
        try:
            value = json.loads(value)
        except ValueError:
            return "", plain.strip()
        if value is not None and not isinstance(value, list | dict):
            return "", plain.strip()
    if not value:
        return "", ""
    listed = value if isinstance(value, list) else [value]
    if wrong := next((entry for entry in listed if not isinstance(entry, dict)), None):
        raise RowProblem(f"field '{column}' lists {kind(wrong)}; every tool must be described by a JSON object")
    described = [_described(tool, f"field '{column}', tool {number}") for number, tool in enumerate(listed, start=1)]
    return json.dumps(described, ensure_ascii=False), ""


def _described(tool: dict[str, Any], where: str) -> dict[str, Any]:
    """A tool as it is given to a server: {"type": "function", "function": {name, description, parameters}}."""
    if "function" not in tool:
        tool = {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str) or not name:
        raise RowProblem(f"{where} has no name; expected an object such as {TOOL_EXAMPLE}")
    if "input_schema" in function and "parameters" not in function:  # Anthropic's name
        function = {"parameters" if key == "input_schema" else key: value for key, value in function.items()}
        tool = tool | {"function": function}
    if isinstance(parameters := function.get("parameters"), str):
        tool = tool | {"function": function | {"parameters": _schema(parameters, where)}}
    return tool if "type" in tool else {"type": "function"} | tool


def _schema(parameters: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(parameters) if parameters.strip() else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RowProblem(f"{where}: its parameters are text; expected a JSON schema, which is an object")
    return value


def media(row: Mapping[str, Any], column: str | None) -> list[Media]:
    """The images or videos in a column: one or a list of them, each a file name, bytes, or Parquet's {bytes, path}."""
    value = row.get(column) if column else None
    if value is None or value == "" or column is None:
        return []
    if (isinstance(value, str) and not value.lstrip().startswith("[")) or isinstance(value, bytes | dict):
        value = [value]
    return [medium(entry, f"field '{column}'") for entry in sequence(value, column, "of file names")]


def medium(value: Any, where: str) -> Media:
    """One image or video. A data: URL is decoded; other URLs are refused, since training reads from the volume only."""
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise RowProblem(f"{where}: an entry is {kind(value) if value else 'empty'}; expected the name of a file")
    scheme, separator, rest = value.partition(":")
    if separator and scheme.lower() == "data":
        return _decoded(rest, where)
    if "://" in value and not value.startswith("file://"):
        raise RowProblem(
            f"{where}: an entry is an address; copy the file beside the dataset and write its relative name"
        )
    if "\\" in value:
        raise RowProblem(f"{where}: the name of a file has backslashes, as on Windows; write / between its folders")
    return value.removeprefix("file://")


def kind(value: Any) -> str:
    """What a value is, in words: "a list", "text", ..."""
    return _KINDS.get(type(value)) or f"a value of type {type(value).__name__}"


def word(value: Any) -> str:
    """A value for a message: one that is a word as it is; anything longer is a text of the row, and stays there."""
    return f"'{value}'" if isinstance(value, str) and _WORD.fullmatch(value) else kind(value)


def file_name(value: str) -> str:
    """The name of a file for a message, or how long a text is that looks like none."""
    return f"'{value}'" if _FILE_NAME.fullmatch(value) else f"'...' (a text of {len(value)} characters)"


def twice(names: Collection[str]) -> str | None:
    """The first name that stands there more than once; of a million names, too, in a moment."""
    if len(set(names)) == len(names):
        return None
    counts = Counter(names)
    return next(name for name in names if counts[name] > 1)


def short_name(name: str) -> str:
    """The name of a column or key for a message: where a file has none, or a broken line, it may be a whole text."""
    printable = name if name.isprintable() else repr(name)[1:-1]
    return printable if len(printable) <= _NAME_CHARACTERS else printable[: _NAME_CHARACTERS - 3] + "..."


def _decoded(rest: str, where: str) -> bytes:
    head, separator, body = rest.partition(",")
    try:
        if not separator or not head.endswith(";base64"):
            raise ValueError("it is not base64")
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(f"{where}: a data: URL cannot be decoded ({error})") from error


def _keys_of(row: Mapping[str, Any]) -> str:
    keys = [short_name(str(key)) for key in row][: _SHOWN_KEYS + 1]
    if not keys:
        return ""
    more = ", ..." if len(keys) > _SHOWN_KEYS else ""
    return f" (the row has {', '.join(keys[:_SHOWN_KEYS])}{more}; other names go into the dataset's columns)"
