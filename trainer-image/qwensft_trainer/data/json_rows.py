"""Reads the rows of a JSON or JSON Lines file one by one, with memory bounded by the largest row.

Which of the two a file is follows from its first character, not from its name. Which files are JSON is decided in
file_types.py, what a row must contain in row_checks.py. What is wrong with a whole file is told in json_layout.py, why
a row is no JSON in json_causes.py.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from qwensft_trainer.data import json_causes, json_layout
from qwensft_trainer.data.first_bytes import NOT_UTF8
from qwensft_trainer.data.row_fields import twice

if TYPE_CHECKING:
    from io import BufferedReader

MAX_ROW_BYTES = 64 << 20
MAX_ROW_COSTS = 512 << 20
_PIECE = 1 << 20
_WHITESPACE = " \t\r\n"
_NEXT_ARRAY = re.compile(r"\]\s*\[")
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


def json_rows(stream: BinaryIO, first: bytes, columns: Collection[str] = ()) -> Iterator[Row]:
    """Yield every row of a stream that begins with the character `first` (see first_character).

    `columns` are those that the rows need. What is not JSON is yielded with a problem; in an array that ends the
    reading.
    """
    return _ArrayReader(stream).rows(columns) if first == b"[" else _lines(stream, columns)


def first_character(stream: BinaryIO) -> bytes:
    """The first byte that is neither whitespace nor a byte order mark; b"" for a stream without any."""
    piece = stream.read(4096).removeprefix(codecs.BOM_UTF8)
    while piece:
        if rest := piece.lstrip(_WHITESPACE.encode()):
            return rest[:1]
        piece = stream.read(4096)
    return b""


def _lines(stream: BinaryIO, columns: Collection[str]) -> Iterator[Row]:
    parser = _Parser()
    number = line = 0
    while raw := stream.readline(MAX_ROW_BYTES + 1):
        line += 1
        raw = raw.removeprefix(codecs.BOM_UTF8)  # also where files were joined
        if not raw.strip():
            continue
        number += 1
        row = _line(number, line, raw, parser)
        if number == 1 and (layout := _layout(row, raw, cast("BufferedReader", stream), columns)):
            yield Row(number, line, None, layout)  # one cause: the same is wrong with every other line
            return
        if row.problem and _is_cut(row, raw):
            row = Row(number, line, None, f"{row.problem}; the file ends inside this row: was it copied completely?")
        yield row
        if len(raw) > MAX_ROW_BYTES:
            return


def _is_cut(row: Row, raw: bytes) -> bool:
    """Whether the line of a row with a problem is the file's last one, and ends too early."""
    if raw.endswith(b"\n") or len(raw) > MAX_ROW_BYTES or row.problem == TOO_MANY_VALUES:
        return False
    return json_layout.continues(raw.decode("utf-8", "replace"))


def _layout(row: Row, raw: bytes, stream: BufferedReader, columns: Collection[str]) -> str | None:
    more = stream.peek(1).strip()
    if row.problem is None:
        return json_layout.of_first(row.value, columns, array=False, alone=not more)
    text = raw[: json_layout.BEGINNING].decode("utf-8", "ignore").strip()
    if row.problem == TOO_MANY_VALUES or len(raw) > min(json_layout.BEGINNING, MAX_ROW_BYTES):
        return json_layout.begun(text, columns)
    if more and json_layout.continues(text):
        text += "\n" + stream.read(json_layout.BEGINNING).decode("utf-8", "ignore")
        return json_layout.begun(text, columns) or json_layout.SEVERAL_LINES
    return json_layout.broken(text)


def _line(number: int, line: int, raw: bytes, parser: _Parser) -> Row:
    if len(raw) > MAX_ROW_BYTES:
        return Row(number, line, None, f"the line is longer than {MAX_ROW_BYTES >> 20} MiB")
    beside = costs(raw.count(b"{"), raw.count(b"["), raw.count(b","))
    if beside > MAX_ROW_COSTS:
        return Row(number, line, None, TOO_MANY_VALUES)
    try:
        value = parser.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        parser.problem()  # of what stands before the error
        return Row(number, line, None, json_causes.why(error, raw))
    if problem := parser.problem():
        return Row(number, line, None, problem)
    return Row(number, line, value, size=len(raw) + beside)


class _Parser(json.JSONDecoder):
    """Knows which key of an object was lost, since another of the same name came later."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_nothing, object_pairs_hook=self._object)
        self._twice: str | None = None

    def problem(self) -> str | None:
        """What is wrong with the objects read since the last time that this was asked."""
        key, self._twice = self._twice, None
        if key is None:
            return None
        return f"the key '{key:.40}' stands twice in one object, and only its last value would be kept: take one out"

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            self._twice = twice([name for name, _ in pairs])
        return value


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
        self._json = _Parser()
        self._text = ""
        self._at = 0
        self._line = 1
        self._size = 0
        self._ended = False

    def rows(self, columns: Collection[str]) -> Iterator[Row]:
        number = 1
        try:
            self._peek()
            if _NEXT_ARRAY.search(self._text) and (problem := json_layout.of_lines(self._text[self._at :])):
                yield Row(number, None, None, problem)
                return
            self._expect("[")
            if self._peek() == "]":
                self._expect("]")
            else:
                while True:
                    row = self._row(number)
                    if number == 1 and (layout := json_layout.of_first(row.value, columns, array=True)):
                        yield Row(number, None, None, layout)
                        return
                    yield row
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

    def _row(self, number: int) -> Row:
        value = self._value()
        if problem := self._json.problem():
            return Row(number, None, None, problem)
        return Row(number, None, value, size=self._size)

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
                    raise _SyntaxProblem(f"not valid JSON ({error.msg}){json_causes.fix(error, array=True)}") from error
            except ValueError as error:  # a number with thousands of digits
                raise _SyntaxProblem(f"not readable JSON ({error!s:.100})") from error
            self._fill_within_limits()
