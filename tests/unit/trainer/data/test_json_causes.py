"""The error of a JSON text is followed by the fix, where it tells what was meant, and quotes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from qwensft_trainer.data.file_types import read_rows

PYTHON = "it is written as Python prints it, not as json.dumps writes it; `python3 -c"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{'instruction': 'Hi'}", PYTHON),
        ('{"instruction": None}', PYTHON),
        ("{\"instruction\": 'Hi'}", PYTHON),
        ("{“instruction”: “Hi”}", "it has typographic quotes; write straight ones"),
        ('{"images": ["C:\\pictures"]}', "a backslash in a text is written twice"),
        ('{"instruction": "Hi\tyou"}', "line breaks and tabs in a text are written as \\n and \\t"),
        ('{"instruction": "Say "hi""}', "a comma is missing, or a quote in a text has no backslash before it"),
    ],
)
def test_the_fix_follows_the_error(tmp_path: Path, row: str, expected: str) -> None:
    for content in (f'{{"a": 1}}\n{row}\n', f'[{{"a": 1}},\n{row}]'):
        (tmp_path / "data").write_text(content)
        problem = str(list(read_rows(tmp_path / "data"))[1].problem)
        assert f": {expected}" in problem
        assert "Hi" not in problem


def test_two_rows_in_a_line_are_told_from_other_text_after_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"a": 1}\n{"a": 1}{"a": 1}\n{"a": 1} tail\n')
    joined, tail = [str(row.problem) for row in read_rows(tmp_path / "data") if row.problem]
    assert joined == "the line holds several rows: was a line break lost between them, as where files were joined?"
    assert tail == "not valid JSON at column 10 (Extra data)"


@pytest.mark.parametrize("array", [True, False])
def test_the_command_makes_json_of_what_python_printed(tmp_path: Path, array: bool) -> None:
    rows = [{"instruction": "It's", "output": None}, {"instruction": '"', "output": "é"}]
    (tmp_path / "OLD").write_text(str(rows) if array else "\n".join(map(str, rows)))
    problem = str(next(iter(read_rows(tmp_path / "OLD"))).problem)
    if shutil.which("python3") is None:
        pytest.skip("no python3 in the path")
    subprocess.run(["/bin/sh", "-c", problem.split("`")[1]], cwd=tmp_path, check=True)
    assert [row.value for row in read_rows(tmp_path / "NEW")] == json.loads(json.dumps(rows))
