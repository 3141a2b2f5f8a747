"""Reads single fields of a dataset's row: text, lists, tool descriptions, images. What is wrong becomes a RowProblem.

Cells of CSV and Parquet files may hold lists as JSON text. How fields make a conversation is decided in row_checks.py.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

# An image or a video as a row gives it: its bytes, or the name of a file.
Media = str | bytes

_SHOWN_KEYS = 10
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
    return json.dumps([_described(tool) for tool in listed], ensure_ascii=False), ""


def _described(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as it is given to a server: {"type": "function", "function": {name, description, parameters}}."""
    if "function" in tool:
        return tool if "type" in tool else {"type": "function"} | tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


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
            f"{where}: '{value:.60}' is an address; copy the file beside the dataset and write its relative name"
        )
    if "\\" in value:
        raise RowProblem(f"{where}: the name of a file has backslashes, as on Windows; write / between its folders")
    return value.removeprefix("file://")


def kind(value: Any) -> str:
    """What a value is, in words: "a list", "text", ..."""
    return _KINDS.get(type(value)) or f"a value of type {type(value).__name__}"


def _decoded(rest: str, where: str) -> bytes:
    head, separator, body = rest.partition(",")
    try:
        if not separator or not head.endswith(";base64"):
            raise ValueError("it is not base64")
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(f"{where}: a data: URL cannot be decoded ({error})") from error


def _keys_of(row: Mapping[str, Any]) -> str:
    keys = [str(key) for key in row][: _SHOWN_KEYS + 1]
    if not keys:
        return ""
    more = ", ..." if len(keys) > _SHOWN_KEYS else ""
    return f" (the row has {', '.join(keys[:_SHOWN_KEYS])}{more}; other names go into the dataset's columns)"
