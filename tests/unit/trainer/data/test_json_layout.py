"""A JSON file that is laid out otherwise is one message, with the command that makes rows of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.data import json_layout, json_rows
from qwensft_trainer.data.file_types import read_rows

ALPACA = frozenset({"instruction", "output"})
OPENAI = frozenset({"messages"})
SHAREGPT = frozenset({"conversations"})

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROWS = [{"instruction": f"Q{number}", "output": f"A{number}"} for number in range(3)]
QUESTIONS, ANSWERS = ([row[name] for row in ROWS] for name in ("instruction", "output"))


def written(tmp_path: Path, content: Any, indent: int | None = None) -> Path:
    path = tmp_path / "OLD"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=indent))
    return path


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def problem(path: Path, columns: frozenset[str]) -> str:
    (row,) = read_rows(path, columns)
    return str(row.problem)


@pytest.mark.parametrize(
    ("content", "columns", "expected", "rows"),
    [
        ({"version": "1.1", "data": ROWS}, ALPACA, "the rows are inside of 'data': the file must hold the array", ROWS),
        ({"name": "tea", "my rows": ROWS}, ALPACA, "the rows are inside of 'my rows'", ROWS),
        ({"name": "tea", "teas": [{"dialog": TALK}]}, OPENAI, "inside of 'teas'", [{"dialog": TALK}]),
        ({"train": ROWS, "test": ROWS[:1]}, ALPACA, "inside of 'train' and 'test': a file holds one array, so", ROWS),
        ({"a": ROWS[0], "b": ROWS[1]}, ALPACA, "the rows are the values of one object", ROWS[:2]),
        ({"instruction": QUESTIONS, "output": ANSWERS}, ALPACA, "every column is a list of all its values", ROWS),
        (
            {name: {str(at): row[name] for at, row in enumerate(ROWS)} for name in ("instruction", "output")},
            ALPACA,
            "every column is an object of all its values",
            ROWS,
        ),
        (
            {"columns": list(ROWS[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
            ALPACA,
            "a table as pandas writes it with orient='split'",
            ROWS,
        ),
        ({"messages": [TALK, TALK], "id": [1, 2]}, OPENAI, "every column is a list",
         [{"messages": TALK, "id": 1}, {"messages": TALK, "id": 2}]),
        (TALK, OPENAI, "the rows are single messages, and a row is a whole conversation", [{"messages": TALK}]),
        (SAID, SHAREGPT, "the rows are single messages", [{"conversations": SAID}]),
        (lines(*TALK), OPENAI, "the rows are single messages", [{"messages": TALK}]),
        ([TALK, TALK], OPENAI, "the rows are lists of messages, without an object around", [{"messages": TALK}] * 2),
        (lines(TALK, TALK), OPENAI, "every line is an array of messages", [{"messages": TALK}] * 2),
        (lines(SAID, SAID), SHAREGPT, "every line is an array of messages", [{"conversations": SAID}] * 2),
        (lines(ROWS[:1], ROWS[1:]), ALPACA, "every line is an array with rows inside", ROWS),
        (lines(*([row["instruction"], row["output"]] for row in ROWS)), ALPACA, "without the names of columns", ROWS),
        ({"turns": [{"text": "Hi"}]}, OPENAI, "'turns' is a list of objects: if they are the rows, ",
         [{"text": "Hi"}]),
    ],
)  # fmt: skip
def test_the_command_makes_rows_of_what_is_laid_out_otherwise(
    tmp_path: Path, content: Any, columns: frozenset[str], expected: str, rows: list[Any]
) -> None:
    for indent in (None, 1):
        path = written(tmp_path, content, indent)
        said = problem(path, columns)
        assert expected in said
        assert "Q0" not in said
        if shutil.which("jq"):
            command = next(part for part in said.split("`") if part.startswith("jq"))
            subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
            assert [row.value for row in read_rows(tmp_path / "NEW")] == rows


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"dialog": [{"speaker": "user", "text": "Hi"}]}, OPENAI),
        ({"chat": [{"from": "human", "text": "Hi"}]}, SHAREGPT),
        ({"talk": [{"text": "Hi"}]}, frozenset({"talk"})),
        ({"data": [{"text": "Hi"}]}, frozenset({"data"})),
        ({"data": TALK}, OPENAI),
        ({"id": 7, "lang": "de", "messages": TALK, "examples": [{"a": 1}]}, OPENAI),
        (ROWS[0] | {"history": [{"instruction": "Q", "output": "A"}], "docs": [{"title": "T"}]}, ALPACA),
        ({"question": "Q", "answer": "A", "results": [{"title": "T"}]}, ALPACA),
        ({"role": "user", "content": "Hello"}, frozenset({"role", "content"})),
        ({"messages": TALK, "images": ["a.png", "b.png"]}, OPENAI),
        ({"input_ids": [1, 2], "labels": [3, 4]}, ALPACA),
        ({"a": [], "b": {}, "c": [{}]}, ALPACA),
    ],
)
def test_a_row_alone_in_its_file_is_a_row(tmp_path: Path, row: dict[str, Any], columns: frozenset[str]) -> None:
    for content in (lines(row), json.dumps([row])):
        assert [one.value for one in read_rows(written(tmp_path, content), columns)] == [row]
    if not row.keys() & {"a", "role", "input_ids"}:
        assert problem(written(tmp_path, row, 1), columns) == json_layout.SEVERAL_LINES


def test_rows_in_lines_are_rows_whatever_lists_they_have(tmp_path: Path) -> None:
    rows = [{"turns": [{"text": "Hi"}]}, {"turns": [{"text": "Bye"}]}]
    assert [row.value for row in read_rows(written(tmp_path, lines(*rows)), OPENAI)] == rows


def test_several_documents_over_several_lines_are_rows(tmp_path: Path) -> None:
    document = json.dumps({"turns": [{"text": "Hi"}]}, indent=1)
    assert problem(written(tmp_path, f"{document}\n{document}\n"), OPENAI) == json_layout.SEVERAL_LINES


@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_of_any_size_is_judged_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None
) -> None:
    monkeypatch.setattr(json_layout, "BEGINNING", 300)
    path = written(tmp_path, {"version": "1.1", "data": ROWS * 50}, indent)
    assert "the rows are inside of 'data'" in problem(path, ALPACA)
    monkeypatch.setattr(json_rows, "MAX_ROW_BYTES", 1000)
    assert "the rows are inside of 'data'" in problem(path, ALPACA)
    monkeypatch.setattr(json_layout, "BEGINNING", 20)  # too short to tell
    said = problem(path, ALPACA)
    assert said == json_layout.SEVERAL_LINES if indent else "the line is longer than" in said
