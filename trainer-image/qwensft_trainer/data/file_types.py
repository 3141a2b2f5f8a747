"""Opens a data file and yields its rows: JSON, JSON Lines, CSV or Parquet, text also packed with gzip or zstd.

The ending of the name decides, then the first bytes of the content: a ConfigMap key or a URL may end in anything.
JSON is read in json_rows.py.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.data.json_rows import MAX_ROW_BYTES, Row, first_character, json_rows

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
_COMPRESSED_ENDINGS = (".gz", ".zst")
_PARQUET_MAGIC = b"PAR1"
_BATCH_BYTES = 8 << 20


def is_data_file(name: str) -> bool:
    """Whether the name's ending says that the file holds rows."""
    return _ending(name) in ENDINGS


def read_rows(path: Path) -> Iterator[Row]:
    """Yield every row of `path`, a value of JSON's types (Parquet adds bytes), or a problem with its place.

    A broken line or a CSV row of the wrong width is a problem of that row; what makes the rest unreadable ends the
    reading. Cells of CSV files are text.
    """
    with path.open("rb") as stream:
        magic = stream.read(len(_PARQUET_MAGIC))
    ending = _ending(path.name)
    if magic == _PARQUET_MAGIC or ending == ".parquet":
        yield from _parquet_rows(path)
        return
    number = 0
    try:
        with _text_stream(path, _COMPRESSIONS.get(magic[:2])) as stream:
            first = first_character(stream)
        if first == b"":
            return
        with _text_stream(path, _COMPRESSIONS.get(magic[:2])) as stream:
            separated = ending in (".csv", ".tsv")
            for row in _csv_rows(stream, "\t" if ending == ".tsv" else ",") if separated else json_rows(stream, first):
                number = row.number
                yield row
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        if magic[:2] not in _COMPRESSIONS:
            raise
        raise_unless_inputs(error)
        yield Row(number + 1, None, None, f"the compressed file cannot be read any further ({error}); is it complete?")


def _ending(name: str) -> str:
    """The ending that tells the type, in lower case and without that of a compression."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in _COMPRESSED_ENDINGS else path.suffix


@contextmanager
def _text_stream(path: Path, compression: str | None) -> Iterator[BinaryIO]:
    if compression == "zstd":
        import pyarrow

        with pyarrow.OSFile(str(path)) as raw, pyarrow.CompressedInputStream(raw, "zstd") as plain:
            yield io.BufferedReader(cast("io.RawIOBase", plain), 1 << 20)
    elif compression == "gzip":
        with gzip.open(path, "rb") as stream:
            yield cast("BinaryIO", stream)
    else:
        with path.open("rb") as stream:
            yield stream


def _csv_rows(stream: BinaryIO, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(_csv_lines(stream), delimiter=delimiter, strict=True)
    number = line = 0
    header: list[str] = []
    try:
        header = next((cells for cells in reader if cells), [])
        if problem := _header_problem(header):
            yield Row(1, reader.line_num, None, problem)
            return
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                number += 1
                yield _csv_row(number, line, header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        yield Row(number + 1, line or 1, None, f"not valid CSV ({error}); a quote inside a quoted cell is doubled")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} of line {reader.line_num + 1} is not valid UTF-8; save the file as UTF-8"
        yield Row(number + 1, line or 1, None, wrong)


def _csv_lines(stream: BinaryIO) -> Iterator[str]:
    """Each line is decoded by itself, so that a wrong byte can be told with its place."""
    mark = codecs.BOM_UTF8
    while piece := stream.readline(MAX_ROW_BYTES + 1):
        if len(piece) > MAX_ROW_BYTES:
            raise csv.Error(f"a line is longer than {MAX_ROW_BYTES >> 20} MiB")
        for line in piece.removeprefix(mark).splitlines(keepends=True):  # also at a lone carriage return
            yield line.decode()
        mark = b""


def _header_problem(header: list[str]) -> str | None:
    if any(not name.strip() for name in header):
        return "the header line has a column without a name"
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        return f"the header line names the column '{twice}' more than once"
    return None


def _csv_row(number: int, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row(
            number,
            line,
            None,
            f"{len(cells)} cells, but the header line names {len(header)} columns; a cell that holds a separator or a "
            "line break must be quoted",
        )
    return Row(number, line, dict(zip(header, cells, strict=True)))


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(batch_size=_batch_size(file.metadata)):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, None, {name: _without_nulls(field) for name, field in value.items()})
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise_unless_inputs(error)
        yield Row(number + 1, None, None, f"the Parquet file cannot be read any further ({error!s:.200})")


def _without_nulls(value: Any) -> Any:
    """Parquet has no objects without a field that others in the column have: what is not there reads as null.

    Kept, the arguments of one tool would show up in every call of another.
    """
    if isinstance(value, dict):
        return {key: _without_nulls(field) for key, field in value.items() if field is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value


def _batch_size(metadata: Any) -> int:
    """Rows that take about _BATCH_BYTES together: a row of a vision dataset may hold megabytes of images."""
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return int(min(1000, max(1, _BATCH_BYTES * max(1, metadata.num_rows) // max(1, size))))
