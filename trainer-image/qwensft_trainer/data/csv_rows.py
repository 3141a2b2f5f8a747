"""Reads the rows of a CSV file one by one, with memory bounded by the largest row. Cells are text.

A row may go over many lines, by quotes: what counts is all that was read since the row before.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, Self

from qwensft_trainer.data.first_bytes import NOT_UTF8
from qwensft_trainer.data.json_rows import MAX_ROW_BYTES, MAX_ROW_COSTS, TOO_MANY_VALUES, Row, costs
from qwensft_trainer.data.row_fields import short_name, twice

_SEPARATORS = (",", ";", "\t")
_TOLD = re.compile(r"sep=(.)\s*")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n|\Z)")
_LONGEST_NAME = 60


def csv_rows(stream: BinaryIO, delimiter: str, columns: Collection[str]) -> Iterator[Row]:
    """Yield every row of a stream, or a problem with its place; `delimiter` is what the file's name promises."""
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(stream)
    reader: Any = None
    number = line = 0
    header: list[str] = []
    try:
        head, delimiter = _separated(lines, delimiter)
        spaced = any(name.startswith(" ") for name in next(csv.reader(head, delimiter=delimiter), [])[1:])
        reader = csv.reader(itertools.chain(head, lines), delimiter=delimiter, strict=True, skipinitialspace=spaced)
        header = [name.strip() for name in next((cells for cells in reader if cells), [])]
        if problem := _header_problem(header, columns):
            yield Row(1, reader.line_num, None, problem)
            return
        line = reader.line_num + 1
        lines.row_ends()
        for cells in reader:
            if any(cells):  # spreadsheets leave rows of nothing
                number += 1
                yield _csv_row(number, line, header, cells, delimiter)
            line = reader.line_num + 1
            lines.row_ends()
    except _TooLarge as error:
        yield Row(number + 1, line or 1, None, str(error))
    except csv.Error as error:
        yield Row(number + 1, line or 1, None, f"not valid CSV ({error}); a quote inside a quoted cell is doubled")
    except UnicodeDecodeError as error:
        at = reader.line_num + 1 if reader else 1
        wrong = f"byte {error.start + 1} of line {at} is not valid UTF-8; {NOT_UTF8}"
        yield Row(number + 1, line or 1, None, wrong)


def _separated(lines: Iterator[str], delimiter: str) -> tuple[list[str], str]:
    """The first line, and what separates its cells: Excel takes semicolons where the comma is in numbers."""
    first = next(lines, "")
    if told := _TOLD.fullmatch(first):  # Excel's own hint; the empty line in its place keeps the count
        return ["\n"], told[1]
    return [first], max(delimiter, *_SEPARATORS, key=lambda one: (first.count(one), one == delimiter))


class _TooLarge(Exception):  # noqa: N818  # it becomes a row's problem
    """A row that is not read to its end."""


class _Lines:
    """The lines of a stream as text. Raises _TooLarge when a row takes more memory than one may."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = _lines(stream)
        self.row_ends()

    def row_ends(self) -> None:
        """The next line begins another row."""
        self._characters = self._cells = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._characters += len(line)
        self._cells += 1 + max(map(line.count, _SEPARATORS))
        if self._characters > MAX_ROW_BYTES:
            raise _TooLarge(
                f"the row is longer than {MAX_ROW_BYTES >> 20} MiB: is the quote at the beginning of a cell closed?"
            )
        if self._characters + 2 * costs(values=self._cells) > MAX_ROW_COSTS:  # short texts take more than numbers
            raise _TooLarge(TOO_MANY_VALUES)
        return line


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Each line is decoded by itself, so that a wrong byte can be told with its place."""
    mark = codecs.BOM_UTF8
    while piece := stream.readline(MAX_ROW_BYTES + 1):
        if len(piece) > MAX_ROW_BYTES:
            raise _TooLarge(f"the line is longer than {MAX_ROW_BYTES >> 20} MiB")
        for line in _split(piece.removeprefix(mark)):
            yield line.decode()
        mark = b""


def _split(piece: bytes) -> Iterator[bytes]:
    """Lines also end at a lone carriage return, of which there may be millions."""
    if b"\r" not in piece.removesuffix(b"\r\n"):
        yield piece
        return
    yield from (found[0] for found in _LINE.finditer(piece) if found[0])


def _header_problem(header: list[str], columns: Collection[str]) -> str | None:
    if not set(header) & set(columns) and any(len(name) > _LONGEST_NAME or "\n" in name for name in header):
        return "the first line holds texts, not the names of columns: put a line with their names before it"
    if any(not name for name in header):
        return "the header line has a column without a name: name it, or take the empty column out"
    if name := twice(header):
        return f"the header line names the column '{short_name(name)}' more than once"
    return None


def _csv_row(number: int, line: int, header: list[str], cells: list[str], separator: str) -> Row:
    if len(cells) != len(header):
        return Row(
            number,
            line,
            None,
            f"{len(cells)} cells, but the header line names {len(header)} columns; a cell that holds a separator or a "
            "line break must be quoted",
        )
    if separator == "\t" and any("\t" in cell and "\n" in cell for cell in cells):
        return Row(
            number,
            line,
            None,
            "a cell holds line breaks and tabs, so a quote at its beginning takes in the "
            "rows that follow: double the quotes in it and put the cell in quotes",
        )
    size = sum(map(len, cells)) + costs(objects=1, values=len(cells))
    return Row(number, line, dict(zip(header, cells, strict=True)), size=size)
