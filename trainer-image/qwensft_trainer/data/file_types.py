"""Opens a data file and yields its rows: JSON, JSON Lines, CSV or Parquet, text also packed with gzip or zstd.

The first bytes decide what a file is (first_bytes.py), and the ending of the name whether text is CSV: a ConfigMap key
or a URL may end in anything. JSON is read in json_rows.py, Parquet in parquet_rows.py.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.data.first_bytes import HEAD_BYTES, NOT_UTF8, Content, content_of
from qwensft_trainer.data.json_rows import MAX_ROW_BYTES, Row, costs, first_character, json_rows
from qwensft_trainer.data.parquet_rows import parquet_rows
from qwensft_trainer.data.row_fields import short_name

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_COMPRESSIONS = ("gzip", "zstd")
_COMPRESSED_ENDINGS = (".gz", ".zst")
_SEPARATORS = (",", ";", "\t")
_TOLD = re.compile(r"sep=(.)\s*")
_PIECE = 1 << 20
_LONGEST_NAME = 60


def is_data_file(name: str) -> bool:
    """Whether the name's ending says that the file holds rows."""
    return _ending(name) in ENDINGS


def read_rows(path: Path, columns: Collection[str] = ()) -> Iterator[Row]:
    """Yield every row of `path`, a value of JSON's types (Parquet adds bytes), or a problem with its place.

    `columns` are those that the rows need, by which a file that is laid out otherwise is told from one of rows.
    A broken line or a CSV row of the wrong width is a problem of that row; what makes the rest unreadable ends the
    reading. Cells of CSV files are text.
    """
    with path.open("rb") as stream:
        outer = content_of(stream.read(HEAD_BYTES))
    packed = outer.form if outer.form in _COMPRESSIONS else None
    if outer.form == "parquet":
        yield from parquet_rows(path)
        return
    number = 0
    try:
        content = outer
        if packed:
            with _plain_stream(path, packed) as stream:
                content = content_of(stream.read(HEAD_BYTES))
        if problem := _unreadable(content, _ending(path.name), packed):
            yield Row(1, None, None, problem)
            return
        for row in _text_rows(path, packed, content.encoding, columns):
            number = row.number
            yield row
    except UnicodeDecodeError:  # only where a byte order mark promised another encoding
        yield Row(number + 1, None, None, f"the file is not valid {content.encoding}, as its first bytes promise")
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        if not packed:
            raise
        raise_unless_inputs(error)
        yield Row(number + 1, None, None, f"the compressed file cannot be read any further ({error}); is it complete?")


def _unreadable(content: Content, ending: str, packed: str | None) -> str | None:
    if content.problem:
        return f"inside of the {packed} file: {content.problem}" if packed else content.problem
    if packed and content.form != "text":
        return f"the file is {content.form} packed with {packed}: unpack it"
    if ending == ".parquet":
        return "the file is called .parquet, but is text: give it the ending of what it holds, such as .jsonl"
    return None


def _text_rows(path: Path, packed: str | None, encoding: str | None, columns: Collection[str]) -> Iterator[Row]:
    with _text_stream(path, packed, encoding) as stream:
        first = first_character(stream)
    if first == b"":
        return
    ending = _ending(path.name)
    with _text_stream(path, packed, encoding) as stream:
        if ending in (".csv", ".tsv") and first not in (b"[", b"{"):
            yield from _csv_rows(stream, "\t" if ending == ".tsv" else ",", columns)
        else:
            yield from json_rows(stream, first, columns)


def _ending(name: str) -> str:
    """The ending that tells the type, in lower case and without that of a compression."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in _COMPRESSED_ENDINGS else path.suffix


class _Utf8(io.RawIOBase):
    """A text in another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = self._stream.read(_PIECE)
            self._rest = self._decoder.decode(piece, final=not piece).encode("utf-8", "surrogatepass")
            if not piece:
                break
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


@contextmanager
def _text_stream(path: Path, compression: str | None, encoding: str | None) -> Iterator[BinaryIO]:
    with _plain_stream(path, compression) as stream:
        yield stream if encoding is None else io.BufferedReader(_Utf8(stream, encoding), _PIECE)


@contextmanager
def _plain_stream(path: Path, compression: str | None) -> Iterator[BinaryIO]:
    if compression == "zstd":
        import pyarrow

        with pyarrow.OSFile(str(path)) as raw, pyarrow.CompressedInputStream(raw, "zstd") as plain:
            yield io.BufferedReader(cast("io.RawIOBase", plain), _PIECE)
    elif compression == "gzip":
        with gzip.open(path, "rb") as stream:
            yield cast("BinaryIO", stream)
    else:
        with path.open("rb") as stream:
            yield stream


def _csv_rows(stream: BinaryIO, delimiter: str, columns: Collection[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _csv_lines(stream)
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
        for cells in reader:
            if any(cells):  # spreadsheets leave rows of nothing
                number += 1
                yield _csv_row(number, line, header, cells, delimiter)
            line = reader.line_num + 1
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


def _csv_lines(stream: BinaryIO) -> Iterator[str]:
    """Each line is decoded by itself, so that a wrong byte can be told with its place."""
    mark = codecs.BOM_UTF8
    while piece := stream.readline(MAX_ROW_BYTES + 1):
        if len(piece) > MAX_ROW_BYTES:
            raise csv.Error(f"a line is longer than {MAX_ROW_BYTES >> 20} MiB")
        for line in piece.removeprefix(mark).splitlines(keepends=True):  # also at a lone carriage return
            yield line.decode()
        mark = b""


def _header_problem(header: list[str], columns: Collection[str]) -> str | None:
    if not set(header) & set(columns) and any(len(name) > _LONGEST_NAME or "\n" in name for name in header):
        return "the first line holds texts, not the names of columns: put a line with their names before it"
    if any(not name for name in header):
        return "the header line has a column without a name: name it, or take the empty column out"
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        return f"the header line names the column '{short_name(twice)}' more than once"
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
