"""Writes a tokenised split once, in parts that several processes encode: the directory that load_from_disk reads.

Memory is bounded for any rows: a process holds one group of rows, bounded in number and in bytes of text, and what is
encoded of it. The library's own `map` and `save_to_disk` wrote everything twice and read 1,000 rows at a time, of
whatever size. ADR 0090 says more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwensft_trainer.base.log import log
from qwensft_trainer.data import processes
from qwensft_trainer.data.lengths import Lengths

GROUP_BYTES = 4 << 20
_WRITTEN_ROWS = 100
_SIZE_OF_A_ROW = 200  # what a row takes beside its text
_PARTS_OF_A_PROCESS = 4  # languages differ in speed: who is done early takes another part

Encode = Callable[[dict[str, list[Any]]], dict[str, list[Any]]]
"""Gives the columns of a split for a group of rows, and "measures": for each sequence those of its rows."""


def write_split(
    rows: Any, encode: Encode, features: Any, directory: Path, *, sizes: Sequence[int], group_rows: int, workers: int
) -> Lengths:
    """Encode all rows into directory/data-*.arrow, as `datasets` names them; returns their lengths.

    `rows` is a Dataset, `sizes` the bytes of text of each row. Raises what `encode` raises, or StageError when a
    process is killed.
    """
    directory.mkdir(parents=True)
    workers = max(1, min(workers, len(sizes)))
    bounds = _bounds(sizes, workers * _PARTS_OF_A_PROCESS if workers > 1 else 1)
    count = len(bounds) - 1
    names = [f"data-{number:05d}-of-{count:05d}.arrow" for number in range(count)]

    def write(number: int) -> Lengths:
        groups = _groups(sizes, bounds[number], bounds[number + 1], group_rows)
        return _write(rows, groups, encode, features, directory / names[number])

    lengths = Lengths()
    log(f"{workers} {'process encodes' if workers == 1 else 'processes encode'} {len(sizes)} rows")
    for part in processes.in_order(write, range(count), workers):
        lengths.join(part)
    _describe(directory, names, features)
    return lengths


def write_index(directory: Path, splits: Sequence[str]) -> None:
    """Make a directory of splits a DatasetDict."""
    (directory / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def _bounds(sizes: Sequence[int], count: int) -> list[int]:
    """Where parts of about the same size begin, and the end of the last; none of them is empty."""
    import numpy

    ends = numpy.cumsum(numpy.asarray(sizes, dtype="int64") + _SIZE_OF_A_ROW)
    whole = int(ends[-1]) if len(ends) else 0
    inner = numpy.searchsorted(ends, [whole * number // count for number in range(1, count)], side="right")
    return sorted({0, len(sizes), *inner.tolist()}) if len(sizes) else [0, 0]


def _groups(sizes: Sequence[int], begin: int, end: int, most_rows: int) -> Iterator[range]:
    start, size = begin, 0
    for index in range(begin, end):
        if index > start and (index - start == most_rows or size + sizes[index] > GROUP_BYTES):
            yield range(start, index)
            start, size = index, 0
        size += sizes[index]
    if start < end:
        yield range(start, end)


def _write(rows: Any, groups: Iterator[range], encode: Encode, features: Any, path: Path) -> Lengths:
    import pyarrow

    lengths, schema = Lengths(), features.arrow_schema
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for group in groups:
            encoded = encode(rows[group.start : group.stop])
            for measures in encoded.pop("measures"):
                lengths.add(measures)
            for start in range(0, len(encoded["input_ids"]), _WRITTEN_ROWS):
                part = {name: encoded[name][start : start + _WRITTEN_ROWS] for name in schema.names}
                writer.write_table(pyarrow.Table.from_pydict(part, schema))
    return lengths


def _describe(directory: Path, names: Sequence[str], features: Any) -> None:
    """The two files beside the data, as Dataset.save_to_disk of datasets 4.0.0 writes them."""
    from datasets import DatasetInfo

    (directory / "dataset_info.json").write_text(json.dumps(asdict(DatasetInfo(features=features))))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": directory.name,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (directory / "state.json").write_text(json.dumps(state))
