"""Datasets are checked row by row, and only complete, normalised ones reach LLaMA-Factory."""

from __future__ import annotations

import json

import pytest

from qwensft_trainer.datasets import write_normalised
from qwensft_trainer.errors import EXIT_PERMANENT, PermanentError
from qwensft_trainer.formats import NORMAL_TAGS

from .conftest import Scene

GOOD = {"instruction": "Hi", "output": "Hello"}


def failure(scene: Scene) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        write_normalised(scene.description)
    assert caught.value.reason == "InvalidDataset"
    assert caught.value.exit_code == EXIT_PERMANENT
    return caught.value


def test_datasets_of_both_formats_are_written_in_one_form(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD, GOOD])
    chat = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    scene.add_dataset("chat", json.dumps(chat) + "\n", form="sharegpt", file_name="chat.jsonl", sampleCount=5)
    assert write_normalised(scene.description) == {"support": 2, "chat": 1}
    data = scene.run_directory / "data"
    support, chat_rows = (data / name for name in ("support.jsonl", "chat.jsonl"))
    assert json.loads(support.read_text().splitlines()[0]) == json.loads(chat_rows.read_text().splitlines()[0])
    info = json.loads((data / "dataset_info.json").read_text())
    assert info["support"] == {
        "file_name": "support.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "system": "system", "tools": "tools"},
        "tags": NORMAL_TAGS,
    }
    assert len(info["support"]["tags"]) == 7
    assert info["chat"]["num_samples"] == 5


def test_every_normalised_row_has_the_same_fields_of_the_same_type(scene: Scene) -> None:
    # The JSON reader of datasets infers types from the first rows and fails on what does not fit later.
    scene.add_dataset("support", [GOOD, GOOD | {"history": [["a", "b"]], "system": "s", "input": None}])
    write_normalised(scene.description)
    lines = (scene.run_directory / "data" / "support.jsonl").read_text().splitlines()
    shapes = {tuple((key, type(value)) for key, value in json.loads(line).items()) for line in lines}
    assert shapes == {(("messages", list), ("system", str), ("tools", str))}


def test_a_bad_row_is_named_with_dataset_file_row_and_fix(scene: Scene) -> None:
    path = scene.add_dataset("support", [GOOD] * 6 + [{"instruction": "Hi"}])
    assert failure(scene).message == (
        f"1 row is invalid: dataset support, file {path}, row 7: field 'output' is missing; alpaca rows need "
        "'instruction' and 'output'"
    )


def test_a_bad_line_is_named_with_its_line_too(scene: Scene) -> None:
    scene.add_dataset("support", json.dumps(GOOD) + "\n\n{}\n", file_name="data.jsonl")
    assert "row 2 (line 3): field 'instruction' is missing" in failure(scene).message


def test_the_first_bad_rows_of_all_datasets_are_shown_and_all_are_counted(scene: Scene) -> None:
    scene.add_dataset("one", [{}] * 3)
    scene.add_dataset("two", [{}] * 10)
    message = failure(scene).message
    assert message.startswith("13 rows are invalid: ")
    assert message.count("alpaca rows need") == 5
    assert "dataset two" in message
    assert message.endswith("; and 8 more")


def test_nothing_is_left_of_an_invalid_dataset(scene: Scene) -> None:
    scene.add_dataset("support", "[1, 2")
    failure(scene)
    assert not (scene.run_directory / "data" / "dataset_info.json").exists()
    assert not list((scene.run_directory / "data").glob(".*"))


@pytest.mark.parametrize("content", ["", "[]", "\n\n"])
def test_a_dataset_without_rows_is_refused(scene: Scene, content: str) -> None:
    scene.add_dataset("support", content)
    assert "the file holds no rows" in failure(scene).message


def test_a_missing_file_is_named_with_what_lies_beside_it(scene: Scene) -> None:
    path = scene.add_dataset("support", [GOOD])
    path.rename(path.with_name("other.json"))
    assert "there is no file" in failure(scene).message
    assert "beside it are other.json" in failure(scene).message


def test_a_directory_in_place_of_a_file_is_explained(scene: Scene) -> None:
    path = scene.add_dataset("support", [GOOD])
    path.unlink()
    path.mkdir()
    assert "is a directory; name a .json or .jsonl file inside it" in failure(scene).message


def test_half_a_surrogate_pair_is_a_bad_row_not_a_crash(scene: Scene) -> None:
    scene.add_dataset("support", '[{"instruction": "Hi", "output": "\\ud83d"}]')
    assert "half of a surrogate pair" in failure(scene).message
