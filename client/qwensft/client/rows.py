"""Rows as a notebook has them, made into one file that the trainer reads. Nothing here needs a cluster.

Lists and DataFrames become JSON Lines, a Dataset of the library `datasets` becomes Parquet (it keeps images), and a
file is sent as it is. Rows are not checked: the prepare stage does that, and names the row.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwensft.client.errors import RowsError

FORMATS: Final = {"messages": "openai", "conversations": "sharegpt", "instruction": "alpaca"}
"""The column that a format is known by."""
ENDINGS: Final = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""Of files that the trainer reads."""
_PACKED: Final = (".gz", ".zst")
"""What may follow the ending of a file of text."""
_LINES: Final = "rows.jsonl"
_TABLE: Final = "rows.parquet"
_FRAME_CHUNK: Final = 10_000  # rows of a DataFrame that are text in memory at a time
_HEAD: Final = 2**20  # bytes of a file that are looked at for its columns


@dataclass(frozen=True, slots=True)
class RowsFile:
    """Rows in one file."""

    path: Path
    name: str
    """What it is called in the cluster; its ending tells the file type."""
    size: int
    """Bytes."""
    sha256: str
    columns: frozenset[str]
    """Of the first row; empty where they cannot be told."""

    @property
    def format(self) -> str:
        """The format of `spec.datasets` that the columns tell.

        Raises:
            RowsError: they tell none.
        """
        found = next((format_ for column, format_ in FORMATS.items() if column in self.columns), None)
        if found is None:
            known = ", ".join(f"{column} ({format_})" for column, format_ in FORMATS.items())
            have = f"rows have {', '.join(sorted(self.columns))}" if self.columns else f"{self.name} does not tell"
            raise RowsError(
                f"format: {have}, and a format is known by one of the columns {known}: say format=, and columns= where "
                "the names are others"
            )
        return found


def ending_of(name: str) -> str:
    """Return the ending that tells what a file of rows holds, such as .csv or .jsonl.gz; "" where it tells nothing."""
    path = Path(name.lower())
    packed = path.suffix if path.suffix in _PACKED else ""
    ending = Path(path.stem).suffix if packed else path.suffix
    return f"{ending}{packed}" if ending in ENDINGS and not (packed and ending == ".parquet") else ""


@contextmanager
def rows_file(rows: Any) -> Iterator[RowsFile]:
    """Yield the file of these rows; one that was made for them is deleted afterwards.

    Args:
        rows: A list (or another iterable) of dicts, a path, a DataFrame of pandas, or a Dataset.

    Raises:
        RowsError: they are something else, have no row, or hold what JSON cannot.
    """
    if isinstance(rows, str | Path):
        yield _given(Path(rows).expanduser())
        return
    with tempfile.TemporaryDirectory(prefix="qwensft-rows-") as directory:
        made = _made(rows, Path(directory))
        if made.size == 0:
            raise RowsError("rows: there are none; give at least one")
        yield made


def _given(path: Path) -> RowsFile:
    if path.is_dir():
        raise RowsError(f"rows: {path} is a directory: name a file in it")
    if not path.is_file():
        raise RowsError(f"rows: there is no file {path}: correct the path")
    ending = ending_of(path.name)
    if not ending:
        raise RowsError(
            f"rows: {path.name} ends in none of {', '.join(ENDINGS)}, nor in one of text with {' or '.join(_PACKED)} "
            "behind it: name it by what it holds"
        )
    if path.stat().st_size == 0:
        raise RowsError(f"rows: {path} is empty: was it written completely?")
    return _described(path, f"rows{ending}", _columns(path, ending))


def _made(rows: Any, directory: Path) -> RowsFile:
    # By what they can do, since an import of pandas or datasets takes seconds and may not be possible.
    if hasattr(rows, "to_parquet") and hasattr(rows, "column_names") and hasattr(rows, "features"):
        path = directory / _TABLE
        if len(rows):
            rows.to_parquet(str(path))
        else:
            path.touch()
        return _described(path, _TABLE, frozenset(rows.column_names))
    path = directory / _LINES
    if hasattr(rows, "to_json") and hasattr(rows, "iloc"):
        _write_frame(rows, path)
        return _described(path, _LINES, frozenset(map(str, rows.columns)))
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable) or isinstance(rows, bytes):
        raise RowsError(
            f"rows: a {type(rows).__name__} is none of a list of dicts, a path, a DataFrame and a Dataset"
            + (": choose a split, as rows['train']" if hasattr(rows, "num_rows") else "")
        )
    return _described(path, _LINES, _write_lines(rows, path))


def _write_lines(rows: Iterable[Any], path: Path) -> frozenset[str]:
    first: frozenset[str] = frozenset()
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise RowsError(f"rows: row {number + 1} is a {type(row).__name__}: a row is a dict")
            try:
                file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
            except (TypeError, ValueError) as error:
                raise RowsError(f"rows: row {number + 1}: {error}") from error
            first = first or frozenset(map(str, row))
    return first


def _plain(value: Any) -> Any:
    """What JSON knows in the place of numpy's numbers and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    hint = (
        ": images go into a Parquet file, or into text as data:image/png;base64,..." if isinstance(value, bytes) else ""
    )
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON{hint}")


def _write_frame(frame: Any, path: Path) -> None:
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RowsError(f"rows: the DataFrame has two columns {twice[0]}: rename one")
    for name in frame.columns:
        if any(isinstance(value, bytes) for value in frame[name]):
            raise RowsError(
                f"rows: column {name} holds bytes, which JSON cannot: write the DataFrame with to_parquet, and give "
                "the path"
            )
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(frame), _FRAME_CHUNK):
            # A value that is missing becomes null, a time ISO 8601.
            text = frame.iloc[start : start + _FRAME_CHUNK].to_json(
                orient="records", lines=True, force_ascii=False, date_format="iso"
            )
            file.write(text if text.endswith("\n") else f"{text}\n")


def _described(path: Path, name: str, columns: frozenset[str]) -> RowsFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return RowsFile(path, name, path.stat().st_size, digest.hexdigest(), columns)


def _columns(path: Path, ending: str) -> frozenset[str]:
    """Columns of a file's first row, as far as its head tells them without reading it whole."""
    if ending == ".parquet" or ending.endswith(".zst"):  # no module of Python's own reads them
        return frozenset()
    try:
        with gzip.open(path) if ending.endswith(".gz") else path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8-sig", errors="replace")
    except (gzip.BadGzipFile, EOFError, zlib.error):  # the run's preparation says what it is
        return frozenset()
    if ending.startswith((".csv", ".tsv")):
        delimiter = "\t" if ending.startswith(".tsv") else ","
        return frozenset(next(csv.reader(head.splitlines(), delimiter=delimiter), []))
    try:
        row, _ = json.JSONDecoder().raw_decode(head.lstrip(" \t\r\n["))
    except ValueError:
        return frozenset()
    return frozenset(row) if isinstance(row, dict) else frozenset()
