"""Parquet files are read with bounded memory, however the sizes of rows are spread over row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qwensft_trainer.data import parquet_rows as reader
from qwensft_trainer.data.json_rows import Row


def read(tmp_path: Path, table: Any) -> list[Row]:
    parquet.write_table(table, tmp_path / "data.parquet", compression="none", use_dictionary=False)
    found = list(reader.parquet_rows(tmp_path / "data.parquet"))
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    return found


def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"number": number, "image": bytes([number]) * 1000} for number in range(50)]
    monkeypatch.setattr(reader, "_BATCH_BYTES", 5000)
    assert [row.value for row in read(tmp_path, pyarrow.Table.from_pylist(rows))] == rows
    assert batch_size(tmp_path) == 4


def test_of_rows_that_may_all_hold_a_dictionarys_largest_text_few_are_read_at_a_time(tmp_path: Path) -> None:
    for length, expected in ((1000, 100), (4 << 20, 7), (200 << 20, 1)):
        text = pyarrow.array(["x" * length])
        column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), text)
        table = pyarrow.table({"output": column, "number": [0] * 1000})
        parquet.write_table(table, tmp_path / "data.parquet", dictionary_pagesize_limit=1 << 30)
        assert batch_size(tmp_path) == expected


def batch_size(tmp_path: Path) -> int:
    path = tmp_path / "data.parquet"
    with path.open("rb") as raw:
        return reader._batch_size(parquet.read_metadata(path).row_group(0), raw)


def test_rows_far_larger_than_those_around_them_are_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_BATCH_BYTES", 5000)
    rows = [{"text": "x" * (80_000 if number == 7 else 10)} for number in range(100)]
    found = read(tmp_path, pyarrow.Table.from_pylist(rows))
    assert [row.value for row in found] == rows
    assert found[7].size > 80_000
    assert all(row.size < 1000 for row in found if row.number != 8)


@pytest.mark.parametrize(
    "values",
    [
        pyarrow.array([[{"a": None}] * 3_000_000], pyarrow.list_(pyarrow.struct([("a", pyarrow.bool_())]))),
        pyarrow.array([[("k", 1)] * 2_000_000], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        pyarrow.array([[[]] * 6_000_000], pyarrow.list_(pyarrow.list_(pyarrow.bool_()))),
    ],
    ids=["objects", "maps", "lists"],
)
def test_a_row_of_countless_small_values_is_a_problem(tmp_path: Path, values: Any) -> None:
    (found,) = read(tmp_path, pyarrow.table({"more": values}))
    assert found.problem is not None
    assert "so many values that reading it would take more than 512 MiB" in found.problem


def test_maps_are_objects(tmp_path: Path) -> None:
    kinds = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    found = read(tmp_path, pyarrow.table({"more": pyarrow.array([[("k", 1)], [("l", 2), ("m", 3)]], kinds)}))
    assert [row.value for row in found] == [{"more": {"k": 1}}, {"more": {"l": 2, "m": 3}}]


def test_messages_that_are_maps_are_objects(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    kinds = pyarrow.list_(pyarrow.map_(pyarrow.string(), pyarrow.string()))
    written = pyarrow.array([[list(message.items()) for message in talk]], kinds)
    assert [row.value for row in read(tmp_path, pyarrow.table({"messages": written}))] == [{"messages": talk}]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            pyarrow.table([pyarrow.array(["q"]), pyarrow.array(["a"])], names=["output", "output"]),
            "the file names the column 'output' more than once",
        ),
        (pyarrow.table({"day": pyarrow.array([10**9], pyarrow.date32())}), "the Parquet file cannot be read any"),
        (
            pyarrow.table(
                {"m": pyarrow.array([[("k", 1), ("k", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))}
            ),
            "the Parquet file cannot be read any further",
        ),
    ],
    ids=["a column twice", "a day that no calendar has", "a key twice"],
)
def test_what_python_cannot_hold_is_a_problem_not_a_crash(tmp_path: Path, table: Any, expected: str) -> None:
    (found,) = read(tmp_path, table)
    assert expected in str(found.problem)
