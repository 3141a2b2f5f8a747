"""CSV, Parquet and compressed files give the same rows as JSON would, and what is broken is named with its place."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qwensft_trainer.data import csv_rows
from qwensft_trainer.data.file_types import is_data_file, read_rows
from qwensft_trainer.data.json_rows import Row

ROWS = [{"instruction": "Hi", "output": "Hello"}, {"instruction": 'Über, "quoted"\nlines', "output": "é"}]


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path) -> list[Any]:
    found = list(read_rows(path))
    assert [row.problem for row in found if row.problem] == []
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    return [row.value for row in found]


def problems(path: Path) -> list[Row]:
    return [row for row in read_rows(path) if row.problem]


def test_a_csv_file_has_a_header_and_quoted_cells(tmp_path: Path) -> None:
    text = 'instruction,output\nHi,Hello\n"Über, ""quoted""\nlines",é\n'
    assert values(written(tmp_path, "data.csv", "\ufeff" + text)) == ROWS
    assert values(written(tmp_path, "data.csv", text.replace("\n", "\r\n"))) == [
        ROWS[0],
        ROWS[1] | {"instruction": ROWS[1]["instruction"].replace("\n", "\r\n")},
    ]


def test_a_tsv_file_is_separated_by_tabs(tmp_path: Path) -> None:
    assert values(written(tmp_path, "data.tsv", "instruction\toutput\nHi, you\tHello\n")) == [
        {"instruction": "Hi, you", "output": "Hello"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "instruction;output\n1,5 l;Hello\n;\n",
        "instruction\toutput\n1,5 l\tHello\n",
        "sep=;\ninstruction;output\n1,5 l;Hello",
    ],
)
def test_the_header_tells_what_separates_the_cells(tmp_path: Path, text: str) -> None:
    assert values(written(tmp_path, "data.csv", text)) == [{"instruction": "1,5 l", "output": "Hello"}]


def test_blanks_after_the_separators_of_the_header_are_no_part_of_names_and_cells(tmp_path: Path) -> None:
    text = 'instruction, output , n\n"Hi", "Hello, you", 1\n'
    assert values(written(tmp_path, "data.csv", text)) == [{"instruction": "Hi", "output": "Hello, you", "n": "1"}]
    assert values(written(tmp_path, "data.csv", "instruction,output\nHi, Hello\n"))[0]["output"] == " Hello"


def test_texts_in_place_of_a_header_are_not_quoted(tmp_path: Path) -> None:
    path = written(tmp_path, "data.csv", f"Hi,{'Hello ' * 20}\nBye,Bye\n")
    (found,) = read_rows(path, {"instruction", "output"})
    assert found.problem == (
        "the first line holds texts, not the names of columns: put a line with their names before it"
    )
    assert values_of(path, {"Hi"}) == 1


def values_of(path: Path, columns: set[str]) -> int:
    return sum(row.problem is None for row in read_rows(path, columns))


def test_a_ragged_csv_row_is_named_with_the_line_it_begins_on_and_reading_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path, "data.csv", 'a,b\n"x\ny",1\n\nonly one\n"p\nq",2,3\nz,3\n')
    found = list(read_rows(path))
    assert [(row.number, row.line) for row in found] == [(1, 2), (2, 5), (3, 6), (4, 8)]
    assert found[1].problem == (
        "1 cells, but the header line names 2 columns; a cell that holds a separator or a line break must be quoted"
    )
    assert "3 cells" in str(found[2].problem)
    assert found[3].value == {"a": "z", "b": "3"}


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        ("a,a\n1,2\n", 1, "names the column 'a' more than once"),
        ("a,\n1,2\n", 1, "a column without a name"),
        ('a,b\n"x" y,1\n', 2, "not valid CSV"),
        ('a,b\n1,2\n"x,1\n', 3, "not valid CSV (unexpected end of data)"),
        (b"a,b\n1,2\n\xff,1\n", 3, "byte 1 of line 3 is not valid UTF-8"),
        (b"\xffa,b\n1,2\n", 1, "byte 1 of line 1 is not valid UTF-8"),
    ],
)
def test_broken_csv_is_named_with_its_line(tmp_path: Path, content: str | bytes, line: int, expected: str) -> None:
    (found,) = problems(written(tmp_path, "data.csv", content))
    assert found.line == line
    assert expected in str(found.problem)


def test_a_csv_cell_that_never_ends_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 1000)
    for endless in ("x\n" * 5000 + '",1\n', 'x\n","' * 5000 + '"\n'):  # one cell, and cells without end
        (found,) = problems(written(tmp_path, "data.csv", 'a,b\n"' + endless))
        assert found.line == 2
        assert "the row is longer than 0 MiB: is the quote at the beginning of a cell closed?" in str(found.problem)
    (found,) = problems(written(tmp_path, "data.csv", "a,b\n" + "x," * 5000))
    assert "the line is longer than" in str(found.problem)
    assert len(list(read_rows(written(tmp_path, "data.csv", "a,b\n" + "x,y\n" * 5000)))) == 5000


def test_a_csv_row_of_any_number_of_cells_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_COSTS", 10_000)
    for separator in (",", ";", "\t"):
        (found,) = problems(written(tmp_path, "data.csv", f"a{separator}b\n" + separator * 1000))
        assert "so many values that reading it would take more than" in str(found.problem)
    assert len(list(read_rows(written(tmp_path, "data.csv", "a,b\n" + "x,y\n" * 5000)))) == 5000


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_of_csv_end_in_three_ways(tmp_path: Path, end: str) -> None:
    lines = ["a,b", '"x', 'y",1', "", "p,q"]
    assert values(written(tmp_path, "data.csv", end.join(lines) + end)) == [
        {"a": f"x{end}y", "b": "1"},
        {"a": "p", "b": "q"},
    ]


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.parquet"])
def test_of_very_many_columns_the_one_that_stands_there_twice_is_found_in_a_moment(tmp_path: Path, name: str) -> None:
    names = [f"column{number}" for number in range(100_000)]
    if name == "data.parquet":
        path = tmp_path / name
        empty = pyarrow.array([], pyarrow.null())
        columns = [*names[:5000], "column4999"]
        parquet.write_table(pyarrow.Table.from_arrays([empty] * len(columns), columns), path)
    elif name == "data.csv":
        path = written(tmp_path, name, ",".join([*names, names[-1]]) + "\n")
    else:
        path = written(tmp_path, name, "{" + ",".join(f'"{one}":1' for one in [*names, names[-1]]) + "}\n")
    started = time.monotonic()
    (found,) = problems(path)
    assert time.monotonic() - started < 60  # compared each with each: 10,000,000,000 times
    assert "999'" in str(found.problem)


def test_a_wrong_byte_in_a_csv_file_is_named_with_its_row_and_line(tmp_path: Path) -> None:
    rows = b"".join(b"%d,%d\n" % (number, number) for number in range(200))
    *good, bad = read_rows(written(tmp_path, "data.csv", b"a,b\n" + rows + b'"x\ny\xff",1\n'))
    assert len(good) == 200
    assert (bad.number, bad.line) == (201, 202)
    assert str(bad.problem).startswith("byte 2 of line 203 is not valid UTF-8; save the file as UTF-8, with `iconv -f")


def test_lines_of_a_csv_file_may_end_in_any_way(tmp_path: Path) -> None:
    rows = [{"a": "1\u2028", "b": "x\ry"}, {"a": "2", "b": ""}]
    for end in ("\n", "\r\n", "\r"):
        for last in ("", end):
            text = end.join(["a,b", '1\u2028,"x\ry"', "2,"]) + last
            assert values(written(tmp_path, "data.csv", text)) == rows


def test_a_parquet_file_is_known_by_its_content_too(tmp_path: Path) -> None:
    rows = [row | {"image": {"bytes": b"x", "path": "a.png"}} for row in ROWS]
    for name in ("data.parquet", "data", "data.json"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        assert values(tmp_path / name) == rows


def test_fields_that_only_other_parquet_rows_have_are_no_part_of_a_row(tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": {"city": "Bonn"}}
    other = {"name": "time", "arguments": {"zone": "CET", "days": [1, None]}}
    rows = [{"calls": [call], "system": None}, {"calls": [call, other], "system": "x"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet")
    assert values(tmp_path / "data.parquet") == rows


def test_a_broken_parquet_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:4]):
        (found,) = problems(written(tmp_path, "broken.parquet", broken))
        assert found.number == 1
        assert "the Parquet file cannot be read any further" in str(found.problem)


@pytest.mark.parametrize("name", ["data.json.gz", "data.jsonl.zst", "data.csv.gz", "data"])
def test_compressed_text_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    if ".csv" in name:
        text = b"instruction,output\nHi,Hello\n"
    else:
        text = json.dumps(ROWS[:1]).encode() if ".jsonl" not in name else json.dumps(ROWS[0]).encode()
    packed = pyarrow.compress(text, "zstd", asbytes=True) if name.endswith("zst") else gzip.compress(text)
    assert values(written(tmp_path, name, packed)) == ROWS[:1]


def test_a_file_of_several_frames_is_read_to_its_end(tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]
    frames = [pyarrow.compress(line, "zstd", asbytes=True) for line in lines]
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size"  # as pzstd writes it before each frame
    assert values(written(tmp_path, "data.jsonl.zst", b"".join(skipped + frame for frame in frames))) == ROWS
    assert values(written(tmp_path, "data.jsonl.gz", b"".join(map(gzip.compress, lines)))) == ROWS


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_cut_off_compressed_file_ends_with_a_problem(tmp_path: Path, compression: str) -> None:
    text = "\n".join(json.dumps({"n": number, "noise": hash(str(number))}) for number in range(20_000)).encode()
    packed = gzip.compress(text) if compression == "gzip" else pyarrow.compress(text, "zstd", asbytes=True)
    found = list(read_rows(written(tmp_path, "data.jsonl", packed[: len(packed) // 2])))
    assert found[-1].problem
    assert any("compressed file" in str(row.problem) or "not valid JSON" in str(row.problem) for row in found[-2:])


@pytest.mark.parametrize("name", ["a.json", "b/c.JSONL", "d.csv.gz", "e.ndjson.zst", "f.parquet", "g.tsv"])
def test_names_of_data_files(name: str) -> None:
    assert is_data_file(name)
    assert not is_data_file(name + ".txt")


@pytest.mark.parametrize(
    ("name", "opened"), [("data.parquet", "pyarrow.parquet.ParquetFile"), ("data.gz", "gzip.open")]
)
def test_a_volume_in_trouble_is_no_problem_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, opened: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / name).write_bytes(b"PAR1" if name.endswith("parquet") else gzip.compress(b"{}"))
    monkeypatch.setattr(opened, fail)
    with pytest.raises(OSError, match="Input/output error"):
        list(read_rows(tmp_path / name))


TEXT = '[{"instruction": "钟表", "output": "é"}]'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["data.json", "data.json.gz"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    content = TEXT.encode(encoding)
    packed = gzip.compress(content) if name.endswith(".gz") else content
    assert values(written(tmp_path, name, packed)) == [{"instruction": "钟表", "output": "é"}]


def test_a_utf16_table_is_read(tmp_path: Path) -> None:
    table = "instruction\toutput\r\nQ\tA\r\n".encode("utf-16")
    assert values(written(tmp_path, "excel.tsv", table)) == [{"instruction": "Q", "output": "A"}]


def test_a_broken_utf16_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    (found,) = problems(written(tmp_path, "data.json", b"\xff\xfe[\x00\x00\xd8]\x00"))
    assert found.problem == "the file is not valid utf-16, as its first bytes promise"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            gzip.compress(b"PK\x03\x04rest", mtime=0),
            "inside of the gzip file: the file is a zip archive or an Excel workbook",
        ),
        (gzip.compress(b"PAR1rest", mtime=0), "the file is parquet packed with gzip: unpack it"),
        (b"\x93NUMPY\x01\x00", "the file is binary: rows are JSON, JSON Lines, CSV or Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS, not the file itself"),
        (b"  <!DOCTYPE html><p>Log in", "the file is a web page, perhaps of a login or an error"),
    ],
)
def test_what_cannot_be_read_is_one_problem_with_the_fix(tmp_path: Path, content: bytes, expected: str) -> None:
    (found,) = read_rows(written(tmp_path, "data.jsonl", content))
    assert expected in str(found.problem)


def test_text_called_parquet_is_a_problem_with_the_fix(tmp_path: Path) -> None:
    (found,) = problems(written(tmp_path, "data.parquet", TEXT))
    assert "the file is called .parquet, but is text: give it the ending of what it holds" in str(found.problem)


def test_json_called_csv_is_read_as_what_it_is(tmp_path: Path) -> None:
    assert values(written(tmp_path, "data.csv", TEXT)) == [{"instruction": "钟表", "output": "é"}]


def test_a_quote_that_takes_in_the_rows_that_follow_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(
        'instruction\toutput\nWho?\t"Yes, said the lead.\nWhere?\tOn the rack.\nWhen?\tFriday."\nWhat?\tClay.\n'
    )
    first, second = read_rows(path)
    assert first.problem == (
        "a cell holds line breaks and tabs, so a quote at its beginning takes in the rows that follow: double the "
        "quotes in it and put the cell in quotes"
    )
    assert second.value == {"instruction": "What?", "output": "Clay."}
