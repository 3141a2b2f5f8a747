"""A list that was written otherwise is a sentence with the command that mends the file."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from qwensft_trainer.data.file_types import read_rows
from qwensft_trainer.data.row_fields import RowProblem, medium, sequence, short_name, text

TALK = [{"role": "user", "content": "It's"}, {"role": "assistant", "content": "so"}]


def problem(path: Path) -> str:
    (row,) = read_rows(path)
    with pytest.raises(RowProblem) as caught:
        sequence(row.value["messages"], "messages", "of messages")
    return str(caught.value)


def follow(said: str, directory: Path) -> None:
    """Run the command of a message, with this interpreter, which has pandas."""
    command = next(part for part in said.split("`") if part.startswith("python3 "))
    subprocess.run(["/bin/sh", "-c", command.replace("python3", sys.executable, 1)], cwd=directory, check=True)


def test_messages_that_python_printed_into_a_cell_are_told_how_to_write(tmp_path: Path) -> None:
    with (tmp_path / "OLD").open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [str(TALK)]])
    (tmp_path / "OLD").rename(tmp_path / "OLD.csv")
    said = problem(tmp_path / "OLD.csv")
    assert "expected a list of messages: it is written as Python prints it; in CSV, `python3 -c" in said
    assert "It's" not in said
    (tmp_path / "OLD.csv").rename(tmp_path / "OLD")
    follow(said, tmp_path)
    (tmp_path / "NEW").rename(tmp_path / "NEW.csv")
    (row,) = read_rows(tmp_path / "NEW.csv")
    assert json.loads(row.value["messages"]) == TALK


def test_what_numpy_printed_cannot_be_read_back() -> None:
    printed = str(TALK).replace("}, {", "}\n {")
    with pytest.raises(RowProblem, match="as numpy prints it, which nothing reads; write the file anew as JSON Lines"):
        sequence(printed, "messages", "of messages")


def test_other_text_that_is_no_json_stays_an_error_alone() -> None:
    with pytest.raises(RowProblem, match=r"; expected a list of messages$"):
        sequence('[{"role": "user"', "messages", "of messages")


def test_an_object_of_lists_is_told_how_to_become_a_list_of_objects(tmp_path: Path) -> None:
    turned = {key: [message[key] for message in TALK] for key in ("role", "content")}
    parquet.write_table(pyarrow.table({"messages": [turned]}), tmp_path / "OLD")
    said = problem(tmp_path / "OLD")
    assert "field 'messages' is an object of lists, as Sequence of the library datasets stores it" in said
    follow(said, tmp_path)
    assert [row.value for row in read_rows(tmp_path / "NEW")] == [{"messages": TALK}]


def test_the_name_of_a_file_has_no_backslashes() -> None:
    with pytest.raises(RowProblem, match=r"^images: the name of a file has backslashes, as on Windows; write /"):
        medium("pictures\\cat.png", "images")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("instruction", "instruction"),
        ("a b\tc", "a b\\tc"),
        ("A whole text. " * 20, "A whole text. A whole text. A whole t..."),
    ],
)
def test_a_name_that_is_a_text_is_cut_in_messages(name: str, shown: str) -> None:
    assert short_name(name) == shown
    with pytest.raises(RowProblem) as caught:
        text({name: "x"}, "output", need="alpaca rows need 'output'")
    assert f"(the row has {shown};" in str(caught.value)
