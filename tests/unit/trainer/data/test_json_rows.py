"""Rows come out of JSON arrays and JSON Lines one by one, and what is broken is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.data import json_rows as rows
from qwensft_trainer.data.file_types import read_rows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "data"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem_of(path: Path) -> str:
    found = [row for row in read_rows(path) if row.problem]
    assert len(found) == 1
    return f"row {found[0].number} line {found[0].line}: {found[0].problem}"


@pytest.fixture(params=[1, 3, 7, 1 << 20])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rows, "_PIECE", request.param)
    return int(request.param)


@given(values=st.lists(VALUES, max_size=6), indent=st.sampled_from([None, 1]), size=st.integers(1, 9))
def test_an_array_reads_the_same_in_pieces_of_any_size(
    values: list[Any], indent: int | None, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("array"), json.dumps(values, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_PIECE", size)
        found = list(read_rows(path))
    assert [row.value for row in found] == values
    assert [row.number for row in found] == list(range(1, len(values) + 1))


@given(values=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), min_size=1, max_size=6))
def test_lines_read_the_same_and_know_their_line(values: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("lines"), "\n\n".join(json.dumps({"n": 0} | value) for value in values))
    found = list(read_rows(path))
    assert [row.value for row in found] == [{"n": 0} | value for value in values]
    assert [row.line for row in found] == [2 * index + 1 for index in range(len(values))]


@pytest.mark.parametrize("content", ["", "  \n ", "[]", " [ ]\n"])
def test_a_file_without_rows_yields_none(tmp_path: Path, content: str) -> None:
    assert list(read_rows(written(tmp_path, content))) == []


@pytest.mark.parametrize("content", [b'\xef\xbb\xbf[{"a": 1}]', b'\xef\xbb\xbf{"a": 1}\n'])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path, content: bytes) -> None:
    assert [row.value for row in read_rows(written(tmp_path, content))] == [{"a": 1}]


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1},\n{"b":}]', "row 2 line None: not valid JSON (Expecting value) (line 2 of the file)"),
        ('[{"a": 1} {"b": 2}]', "row 1 line None: expected ',' but found '{'"),
        ('[{"a": 1},', "row 2 line None: the file ends inside the array; was it copied completely?"),
        ('[{"a": 1}] tail', "row 1 line None: there is text after the array's closing ']'"),
        ('{"a": 1}\n{oops}\n', "row 2 line 2: not valid JSON at column 2"),
        ('{\n  "a": 1\n}', "row 1 line 1: a row goes over several lines: write one object per line, as `jq -c ."),
        ('{"a": 1,\n "b": [2]}', "row 1 line 1: a row goes over several lines"),
        ('{"a": 1} {"a": 2}\n', "row 1 line 1: a line holds several objects: write one per line"),
        ('{"a": 1},\n{"a": 2},\n', "row 1 line 1: the lines end with commas: take them off, or put ["),
        ('{"a": 1}\n{"a": 2},\n{"a": 3}', "row 2 line 2: there is a comma after the row"),
        ('{"data": [{"a": 1}]}', "row 1 line 1: the rows are inside of 'data': the file must hold the array itself"),
        ('{\n "version": "1.1",\n "data": [\n  {\n   "a": 1}]}', "row 1 line 1: the rows are inside of 'data'"),
        ('{\n "conversations": [\n  {\n   "from": "human"}]}', "row 1 line 1: a row goes over several lines"),
        ('[{"a": 1},\n{"a": 2},\n]', "row 2 line None: there is a comma after the last row: take it off (line 2 of"),
        ('[{"a": 1}, {"a": [1, "b', "row 2 line None: the file ends inside this row: was it copied completely?"),
        ('{"a": 1}\n{"a": [1, "b', "the file ends inside this row: was it copied completely?"),
        ("a,b\n1,2\n", "row 1 line 1: the first line is no JSON object; rows are JSON, or CSV and TSV in files"),
    ],
)
def test_broken_json_is_named_with_its_place(tmp_path: Path, content: str, expected: str) -> None:
    first = next(row for row in read_rows(written(tmp_path, content)) if row.problem)
    assert expected in f"row {first.number} line {first.line}: {first.problem}"


@pytest.mark.parametrize("content", ['[{"a": NaN, "b": 1}]', '{"a": NaN, "b": 1}\n', '{"a": -Infinity, "b": 1}'])
def test_what_pandas_writes_for_nothing_is_nothing(tmp_path: Path, content: str) -> None:
    assert [row.value for row in read_rows(written(tmp_path, content))] == [{"a": None, "b": 1}]


def test_one_row_of_one_conversation_is_no_wrapping(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "Hi"}]}
    assert [one.value for one in read_rows(written(tmp_path, json.dumps(row)))] == [row]


def test_a_row_of_millions_of_small_values_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    text = '{"a": [' + ",".join(["{}"] * 2_000_000) + "]}"
    assert "so many values that reading it would take more than 512 MiB" in problem_of(written(tmp_path, text))
    assert "so many values that reading it would take more than 512 MiB" in problem_of(written(tmp_path, f"[{text}]"))


def test_a_mistake_in_a_long_array_is_told_without_reading_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_PIECE", 100)
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 5000)
    text = '[{"a": 1},\n{"a" 1},\n' + '{"a": 1},\n' * 2000 + '{"a": 1}]'
    assert problem_of(written(tmp_path, text)) == (
        "row 2 line None: not valid JSON (Expecting ':' delimiter) (line 2 of the file)"
    )


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"input": "a", "input": "b"}', "input"),
        ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}', "content"),
        ('{"tools": [{"name": "f", "name": "f"}]}', "name"),
    ],
)
def test_a_key_that_stands_twice_in_an_object_is_a_problem_of_its_row_alone(tmp_path: Path, row: str, key: str) -> None:
    good = '{"a": {"b": 1}, "c": {"b": 2}}'
    for content in (f"{good}\n{row}\n{good}\n", f"[{good}, {row},\n{good}]"):
        found = list(read_rows(written(tmp_path, content)))
        assert [row.problem is None for row in found] == [True, False, True]
        assert f"the key '{key}' stands twice in one object, and only its last value" in str(found[1].problem)


def test_a_key_twice_in_a_broken_line_is_not_told_of_the_next(tmp_path: Path) -> None:
    found = list(read_rows(written(tmp_path, '{"a": 1}\n{"b": {"c": 1, "c": 2}, oops}\n{"a": 1}\n')))
    assert [row.problem is None for row in found] == [True, False, True]


def test_a_byte_order_mark_where_files_were_joined_is_no_part_of_the_data(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeff{"a": 1}\n\ufeff{"a": 2}\n')
    assert [row.value for row in read_rows(path)] == [{"a": 1}, {"a": 2}]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    rows = [{"a": "x\u2028y\u2029z\x85"}, {"a": "2"}]
    content = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert [row.value for row in read_rows(written(tmp_path, content))] == rows


def test_a_last_line_that_is_wrong_but_whole_is_not_said_to_be_cut(tmp_path: Path) -> None:
    assert problem_of(written(tmp_path, '{"a": 1}\n{"a": }')).endswith("(Expecting value)")


def test_a_number_beyond_reason_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    digits = "1" * 5000
    assert "row 1 line 1: not readable JSON (Exceeds the limit" in problem_of(written(tmp_path, f'{{"a": {digits}}}'))
    assert "row 1 line None: not readable JSON (Exceeds" in problem_of(written(tmp_path, f'[{{"a": {digits}}}]'))


def test_reading_goes_on_after_a_broken_line(tmp_path: Path) -> None:
    found = list(read_rows(written(tmp_path, '{"a": 1}\nbroken\n{"b": 2}\n')))
    assert [row.value for row in found] == [{"a": 1}, None, {"b": 2}]


def test_bytes_that_are_not_utf8_are_a_problem_of_their_row(tmp_path: Path) -> None:
    assert "row 2 line 2: byte 8 of the line is not valid UTF-8" in problem_of(
        written(tmp_path, b'{"a": 1}\n{"b": "\xff"}\n')
    )
    assert "not valid UTF-8" in problem_of(written(tmp_path, b'[{"b": "\xff"}]'))


def test_a_row_that_never_ends_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(rows, "_PIECE", 100)
    endless = '"' + "x" * 5000
    assert "longer than" in problem_of(written(tmp_path, f"[{endless}"))
    assert "longer than" in problem_of(written(tmp_path, f"{{{endless}"))


def test_nesting_beyond_reason_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert "nested too deeply" in problem_of(written(tmp_path, "[" * 100_000))
    assert "nested too deeply" in problem_of(written(tmp_path, '{"a":' * 100_000))
