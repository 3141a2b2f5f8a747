"""Opens a data file and yields its rows: JSON, JSON Lines, CSV or Parquet, text also packed with gzip or zstd.

The first bytes decide what a file is (first_bytes.py), and the ending of the name whether text is CSV: a ConfigMap key
or a URL may end in anything. JSON is read in json_rows.py, CSV in csv_rows.py, Parquet in parquet_rows.py.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.data.csv_rows import csv_rows
from qwensft_trainer.data.first_bytes import HEAD_BYTES, Content, content_of
from qwensft_trainer.data.json_rows import Row, first_character, json_rows
from qwensft_trainer.data.parquet_rows import parquet_rows

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_COMPRESSIONS = ("gzip", "zstd")
_COMPRESSED_ENDINGS = (".gz", ".zst")
_PIECE = 1 << 20


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
            yield from csv_rows(stream, "\t" if ending == ".tsv" else ",", columns)
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
