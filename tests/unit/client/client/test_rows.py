"""Rows of every kind become one file, and say what format they have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import numpy
import pandas
import pytest

from qwensft.client.errors import RowsError
from qwensft.client.rows import ENDINGS, RowsFile, ending_of, rows_file
from qwensft_trainer.data import file_types

ALPACA = [{"instruction": "Wie geht's?", "output": "Gut."}, {"instruction": "好吗?", "output": "好。"}]


def content(rows: Any) -> tuple[RowsFile, list[Any]]:
    with rows_file(rows) as file:
        assert file.size == file.path.stat().st_size
        return file, [json.loads(line) for line in file.path.read_text(encoding="utf-8").splitlines()]


def test_a_list_becomes_json_lines_as_they_are_read() -> None:
    file, lines = content(ALPACA)
    assert lines == ALPACA
    assert (file.name, file.format) == ("rows.jsonl", "alpaca")
    assert not file.path.exists()


def test_a_generator_does_as_well() -> None:
    assert content(row for row in ALPACA)[1] == ALPACA


def test_the_same_rows_have_the_same_digest_and_others_another() -> None:
    assert content(ALPACA)[0].sha256 == content([*ALPACA])[0].sha256
    assert content(ALPACA)[0].sha256 != content(ALPACA[:1])[0].sha256


def test_a_data_frame_becomes_rows_and_what_is_missing_null() -> None:
    frame = pandas.DataFrame([*ALPACA, {"instruction": "And?", "output": None}])
    frame["history"] = [[["a", "b"]], [], None]
    frame["number"] = numpy.array([1, 2, 3], dtype="int64")
    file, lines = content(frame)
    assert lines[0] == ALPACA[0] | {"history": [["a", "b"]], "number": 1}
    assert lines[2]["output"] is None
    assert file.format == "alpaca"


def test_a_data_frame_of_many_rows_is_written_whole() -> None:
    frame = pandas.DataFrame(
        {"instruction": [str(n) for n in range(25_001)], "output": "x"}, index=range(25_001, 0, -1)
    )
    lines = content(frame)[1]
    assert [line["instruction"] for line in lines] == [str(n) for n in range(25_001)]


def test_a_dataset_becomes_parquet_with_its_messages() -> None:
    rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    with rows_file(datasets.Dataset.from_list(rows)) as file:
        assert (file.name, file.format) == ("rows.parquet", "openai")
        assert pandas.read_parquet(file.path)["messages"][0][1]["content"] == "Hello"


@pytest.mark.parametrize(
    ("name", "text", "format_"),
    [
        ("a.jsonl", '{"messages": []}\n{"other": 1}\n', "openai"),
        ("a.json", ' [\n {"conversations": [], "system": "x"}, {}]', "sharegpt"),
        ("a.csv", "instruction,output\na,b\n", "alpaca"),
        ("A.CSV", '\ufeff"instruction","output"\n', "alpaca"),
        ("a.tsv", "instruction\toutput\na\tb\n", "alpaca"),
        ("a.ndjson", '{"messages": []}\n', "openai"),
    ],
)
def test_a_file_is_sent_as_it_is(tmp_path: Path, name: str, text: str, format_: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with rows_file(str(path)) as file:
        assert (file.path, file.format) == (path, format_)
        assert file.name == f"rows{Path(name).suffix.lower()}"
    assert path.exists()


def test_a_file_that_is_packed_is_sent_so(tmp_path: Path) -> None:
    path = tmp_path / "a.Jsonl.gz"
    path.write_bytes(gzip.compress(b'{"messages": []}\n'))
    with rows_file(path) as file:
        assert (file.path, file.name, file.format) == (path, "rows.jsonl.gz", "openai")
    for content in (b"\x1f\x8b cut off", b"never packed"):
        path.write_bytes(content)
        with rows_file(path) as file:
            assert file.columns == frozenset(), "the run's preparation says what it is"


def test_the_trainer_reads_what_is_sent() -> None:
    assert ENDINGS == file_types.ENDINGS
    assert all(file_types.is_data_file(f"rows{one}.zst") and ending_of(f"rows{one}.zst") for one in ENDINGS[:5])
    assert ending_of("rows.parquet.gz") == ending_of("rows") == ending_of("rows.gz") == ""


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "there are none"),
        ([ALPACA[0], ["instruction"]], "row 2 is a list: a row is a dict"),
        (
            [{"instruction": "x", "images": [b"png"]}],
            "row 1: a bytes cannot be written as JSON: images go into a Parquet",
        ),
        ({"train": ALPACA}, "a dict is none of a list of dicts"),
        (7, "a int is none of a list of dicts, a path"),
        ("/nowhere/rows.json", "there is no file /nowhere/rows.json"),
        (pandas.DataFrame({"instruction": ["a"], "images": [b"png"]}), "column images holds bytes"),
        (pandas.DataFrame([["a", "b"]], columns=["output", "output"]), "two columns output: rename one"),
        (pandas.DataFrame({"instruction": []}), "there are none"),
        (datasets.Dataset.from_list([]), "there are none"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ALPACA)}), "choose a split, as rows['train']"),
    ],
)
def test_what_cannot_be_rows_says_what_to_change(rows: Any, words: str) -> None:
    with pytest.raises(RowsError) as refused, rows_file(rows):
        pass
    assert words in str(refused.value)


def test_a_file_of_another_kind_or_an_empty_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RowsError, match="folder is a directory: name a file in it"), rows_file(tmp_path / "folder"):
        pass
    for name, text, words in (("rows.xlsx", "x", "ends in none of .json"), ("rows.json", "", "is empty")):
        (tmp_path / name).write_text(text)
        with pytest.raises(RowsError) as refused, rows_file(tmp_path / name):
            pass
        assert words in str(refused.value)


def test_columns_that_tell_no_format_are_named() -> None:
    with rows_file([{"question": "a", "answer": "b"}]) as file, pytest.raises(RowsError) as refused:
        _ = file.format
    assert "rows have answer, question" in str(refused.value)
    assert "say format=, and columns=" in str(refused.value)
