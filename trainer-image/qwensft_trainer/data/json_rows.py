"""Reads the rows of a JSON or JSON Lines file one by one, with memory bounded by the largest row.

Which of the two a file is follows from its first character, not from its name. Which files are JSON is decided in
file_types.py, what a row must contain in row_checks.py.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from qwensft_trainer.data import json_layout
from qwensft_trainer.data.first_bytes import NOT_UTF8

if TYPE_CHECKING:
    from io import BufferedReader

MAX_ROW_BYTES = 64 << 20
MAX_ROW_COSTS = 512 << 20
_PIECE = 1 << 20
_WHITESPACE = " \t\r\n"
# How far before the end of cut-off JSON its error may lie: where a word such as -Infinity or an escape begins.
_LONGEST_TOKEN = 20
_UNTERMINATED = "Unterminated string"
TOO_MANY_VALUES = (
    f"the row holds so many values that reading it would take more than {MAX_ROW_COSTS >> 20} MiB; split it, or leave "
    "out what is not trained on"
)


@dataclass(frozen=True)
class Row:
    """One row: `number` counts from 1, `line` is set for formats with lines. With a `problem`, `value` is None.

    `size` is about how many bytes of memory the value takes.
    """

    number: int
    line: int | None
    value: Any
    problem: str | None = None
    size: int = 0


def json_rows(stream: BinaryIO, first: bytes) -> Iterator[Row]:
    """Yield every row of a stream that begins with the character `first` (see first_character).

    What is not JSON is yielded with a problem; in an array that ends the reading.
    """
    return _ArrayReader(stream).rows() if first == b"[" else _lines(stream)


def first_character(stream: BinaryIO) -> bytes:
    """The first byte that is neither whitespace nor a byte order mark; b"" for a stream without any."""
    piece = stream.read(4096).removeprefix(codecs.BOM_UTF8)
    while piece:
        if rest := piece.lstrip(_WHITESPACE.encode()):
            return rest[:1]
        piece = stream.read(4096)
    return b""


def _lines(stream: BinaryIO) -> Iterator[Row]:
    number = line = 0
    while raw := stream.readline(MAX_ROW_BYTES + 1):
        line += 1
        if len(raw) > MAX_ROW_BYTES:
            yield Row(number + 1, line, None, f"the line is longer than {MAX_ROW_BYTES >> 20} MiB")
            return
        if line == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            continue
        number += 1
        row = _line(number, line, raw)
        if number == 1 and (layout := _layout(row, raw, cast("BufferedReader", stream).peek(1))):
            yield Row(number, line, None, layout)  # one cause: the same is wrong with every other line
            return
        if row.problem and not raw.endswith(b"\n") and number > 1:
            yield Row(number, line, None, f"{row.problem}; the file ends inside this row: was it copied completely?")
            return
        yield row


def _layout(row: Row, raw: bytes, following: bytes) -> str | None:
    if row.problem == TOO_MANY_VALUES:  # so it must not be read to find out more
        return None
    text = raw.decode("utf-8", "replace").strip()
    more = following.decode("utf-8", "replace")
    if row.problem is None:
        alone = isinstance(row.value, dict) and len(row.value) == 1 and not more
        return json_layout.wrapped(text) if alone else None
    return json_layout.wrapped(text + more) or json_layout.broken(text, has_more=bool(more))


def _line(number: int, line: int, raw: bytes) -> Row:
    beside = costs(raw.count(b"{"), raw.count(b"["), raw.count(b","))
    if beside > MAX_ROW_COSTS:
        return Row(number, line, None, TOO_MANY_VALUES)
    try:
        return Row(number, line, json.loads(raw.decode("utf-8"), parse_constant=_nothing), size=len(raw) + beside)
    except (ValueError, RecursionError) as error:
        return Row(number, line, None, _why(error, raw))


def _why(error: Exception, raw: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} of the line is not valid UTF-8; {NOT_UTF8}"
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if raw.rstrip().endswith(b"},"):
        return "there is a comma after the row: a line of JSON Lines ends with the row's '}'"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON at column {error.colno} ({error.msg})"
    return f"not readable JSON ({error!s:.100})"  # a number with thousands of digits


def _nothing(_: str) -> None:
    """NaN and Infinity, which pandas writes for what is missing and JSON does not know, count as missing."""


def costs(objects: int = 0, lists: int = 0, values: int = 0) -> int:
    """About how many bytes of memory a row's values take as Python's objects, beside their texts."""
    return 240 * objects + 90 * lists + 60 * values


class _SyntaxProblem(Exception):  # noqa: N818  # it becomes a row's problem
    """The array cannot be read any further."""


class _ArrayReader:
    """A window over the file's text that always starts at the next thing to read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=_nothing)
        self._text = ""
        self._at = 0
        self._line = 1
        self._size = 0
        self._ended = False

    def rows(self) -> Iterator[Row]:
        number = 1
        try:
            self._expect("[")
            if self._peek() == "]":
                self._expect("]")
            else:
                while True:
                    value = self._value()
                    yield Row(number, None, value, size=self._size)
                    if self._peek() == "]":
                        self._expect("]")
                        break
                    self._expect(",")
                    comma = self._line
                    if self._peek() == "]":
                        self._line = comma
                        raise _SyntaxProblem("there is a comma after the last row: take it off")
                    number += 1
            if self._peek():
                raise _SyntaxProblem("there is text after the array's closing ']'")
        except _SyntaxProblem as problem:
            yield Row(number, None, None, f"{problem} (line {self._line} of the file)")

    def _fill(self) -> bool:
        """Append at least a piece, doubling the window, and drop what was read. False at the end of the file."""
        if self._ended:
            return False
        rest = len(self._text) - self._at
        piece = self._stream.read(max(_PIECE, rest))
        self._ended = not piece
        try:
            decoded = self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            raise _SyntaxProblem(f"not valid UTF-8; {NOT_UTF8}") from error
        self._text = self._text[self._at :] + decoded
        self._at = 0
        return not self._ended

    def _fill_within_limits(self) -> None:
        if len(self._text) - self._at > MAX_ROW_BYTES:
            raise _SyntaxProblem(f"not valid JSON, or longer than {MAX_ROW_BYTES >> 20} MiB")
        self._fill()
        if costs(self._text.count("{"), self._text.count("["), self._text.count(",")) > MAX_ROW_COSTS:
            raise _SyntaxProblem(TOO_MANY_VALUES)

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _peek(self) -> str:
        """The next character that is no whitespace, or "" at the end of the file."""
        while True:
            end = self._at
            while end < len(self._text) and self._text[end] in _WHITESPACE:
                end += 1
            self._advance(end)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill() and self._at >= len(self._text):
                return ""

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise _SyntaxProblem(f"expected '{character}' but found {f'{found!r}' if found else 'the end of the file'}")
        self._advance(self._at + 1)

    def _value(self) -> Any:
        if not self._peek():
            raise _SyntaxProblem("the file ends inside the array; was it copied completely?")
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                # A number at the edge of the window may go on behind it; objects, lists and strings are complete.
                if isinstance(value, dict | list | str) or end < len(self._text) or self._ended:
                    counts = [self._text.count(character, self._at, end) for character in "{[,"]
                    self._size = end - self._at + costs(*counts)
                    self._advance(end)
                    return value
            except RecursionError as error:
                raise _SyntaxProblem("the JSON is nested too deeply") from error
            except json.JSONDecodeError as error:
                # Before its end, the window shows what is wrong; at its end, only that something is missing so far.
                is_cut = error.pos > len(self._text) - _LONGEST_TOKEN or error.msg.startswith(_UNTERMINATED)
                if self._ended and is_cut and not self._text.rstrip().endswith("]"):
                    raise _SyntaxProblem("the file ends inside this row: was it copied completely?") from error
                if self._ended or not is_cut:
                    self._advance(min(error.pos, len(self._text)))
                    raise _SyntaxProblem(f"not valid JSON ({error.msg})") from error
            except ValueError as error:  # a number with thousands of digits
                raise _SyntaxProblem(f"not readable JSON ({error!s:.100})") from error
            self._fill_within_limits()
