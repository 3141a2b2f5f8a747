"""Files that are hard on memory, for the measurement of peaks: few or huge rows, skewed row groups, images in bytes."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow
from PIL import Image
from pyarrow import parquet

MIB = 1 << 20
_WORDS = "the kiln cools for eleven hours before anybody opens its door, "


def _row(text: str, **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "Yes."}]} | more


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")
    return path


def _line_of_100_mb(directory: Path) -> Path:
    return _lines(directory / "line.jsonl", [_row(_WORDS * (100_000_000 // len(_WORDS)))])


def _small_objects(directory: Path) -> Path:
    path = directory / "objects.jsonl"
    more = ",".join(['{"a":1}'] * (60 * MIB // 8))
    path.write_text(json.dumps(_row("Hi"))[:-1] + f', "more": [{more}]}}\n')
    return path


def _objects_below_the_limit(directory: Path) -> Path:
    more = [{"a": 1}] * 1_600_000
    return _lines(directory / "below.jsonl", (_row("Hi", more=more) for _ in range(6)))


def _long_texts(directory: Path) -> Path:
    text = _WORDS * (7 * MIB // len(_WORDS))
    return _lines(directory / "long.jsonl", (_row(text) for _ in range(12)))


def _digits(directory: Path) -> Path:
    return _lines(directory / "digits.jsonl", (_row("0123456789" * (7 * MIB // 10)) for _ in range(6)))


def _one_row_group(directory: Path) -> Path:
    path = directory / "group.parquet"
    rows = [_row(_WORDS * 20) for _ in range(100_000)]
    for place in (10, 20, 30, 40_000, 99_999):
        rows[place] = _row(_WORDS * (7 * MIB // len(_WORDS)))
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=len(rows))
    return path


def _images(directory: Path) -> Path:
    path, dice = directory / "images.parquet", random.Random(3)  # noqa: S311
    rows = []
    for _ in range(60):
        stream = io.BytesIO()
        Image.frombytes("RGB", (1000, 1000), dice.randbytes(3_000_000)).save(stream, "PNG")
        rows.append(_row("<image>What?", images=[{"bytes": stream.getvalue(), "path": None}]))
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=60)
    return path


CASES: dict[str, Callable[[Path], Path]] = {
    "a line of 100 MB": _line_of_100_mb,
    "a row of 60 MiB of small objects": _small_objects,
    "6 rows of 1.6 million small objects": _objects_below_the_limit,
    "12 rows of 7 MiB of text": _long_texts,
    "6 rows of 7 MiB of digits, a token each": _digits,
    "100,000 rows in one row group, 5 of them of 7 MiB": _one_row_group,
    "60 images of 3 MB in one row group": _images,
}
"""What is measured, and what writes its file below a directory."""
