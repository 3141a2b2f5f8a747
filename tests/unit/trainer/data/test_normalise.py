"""Datasets are checked row by row, and only complete, normalised ones reach LLaMA-Factory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from qwensft_trainer.data import normalise as datasets
from qwensft_trainer.data import processes, row_groups
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data.row_checks import NORMAL_TAGS, conversation
from qwensft_trainer.data.thinking import Thinking

from ..conftest import Scene
from .normalised import GOOD, failure, normalised, rows_of, write


def test_datasets_of_all_formats_and_file_types_are_written_in_one_form(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD, GOOD | {"output": "Howdy"}])
    scene.add_dataset("table", "instruction,output\nHi,Hello\n", file_name="table.csv")
    chat = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    scene.add_dataset("chat", json.dumps(chat) + "\n", form="sharegpt", file_name="chat.jsonl", sampleCount=5)
    messages = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    scene.add_dataset("open", [messages], form="openai", columns={"messages": "messages"})
    rows, warnings = write(scene)
    assert rows == {"support": 2, "table": 1, "chat": 1, "open": 1}
    assert [warning.partition(" rows ")[2].partition(" (")[0] for warning in warnings] == [
        "stand in an earlier dataset of the job, too"
    ] * 3
    common = messages | {"system": "", "tools": "", "images": [], "videos": []}
    for name in ("support", "table", "chat", "open"):
        first = rows_of(scene, name)[0]
        assert first.pop("place").endswith(", row 1")
        assert first.pop("fingerprint") == rows_of(scene, "support")[0]["fingerprint"]
        assert first.pop("size") == 7
        expected = [message | {"learn": None} for message in messages["messages"]]
        assert first == common | {"messages": expected, "dataset": name, "row": 1}
    info = json.loads((scene.run_directory / "data" / "dataset_info.json").read_text())
    assert info["support"] == {
        "file_name": "support.parquet",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "system": "system", "tools": "tools"},
        "tags": NORMAL_TAGS,
    }
    assert len(info["support"]["tags"]) == 7
    assert info["chat"]["num_samples"] == 5


def test_evaluation_datasets_are_checked_and_written_like_the_others(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD])
    scene.add_dataset("quiz", [{"instruction": "Hi"}])
    scene.document["evaluation"] = {"datasets": [scene.document["datasets"].pop()]}
    assert "dataset quiz, file data.json, row 1" in failure(scene).message


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_checked_in_groups_by_several_processes_are_written_and_told_in_their_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(row_groups, "_MOST_ROWS", 3)
    monkeypatch.setattr(datasets, "_BYTES_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(processes, "most", lambda: workers)
    rows = [{"instruction": f"Say {number}", "output": "<|im_end|>", "note": "x"} for number in range(20)]
    scene.add_dataset("support", rows)
    counts, warnings = write(scene)
    assert counts == {"support": 20}
    written = rows_of(scene, "support")
    assert [row["row"] for row in written] == list(range(1, 21))
    assert [row["messages"][0]["content"] for row in written] == [row["instruction"] for row in rows]
    assert parquet.ParquetFile(datasets.normalised_file(scene.run, "support")).num_row_groups == 7
    unread, tokens = warnings
    assert "'note' (20 of 20 rows" in unread
    assert "20 of 20 rows hold control tokens" in tokens
    assert tokens.endswith("20 times <|im_end|>, first in file data.json, row 1, answer 1")


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_rows_found_by_several_processes_are_told_in_their_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(row_groups, "_MOST_ROWS", 2)
    monkeypatch.setattr(datasets, "_BYTES_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(processes, "most", lambda: workers)
    scene.add_dataset("support", [GOOD if number % 2 else {"instruction": "Hi"} for number in range(12)])
    message = failure(scene).message
    assert message.startswith("6 rows are invalid: dataset support, file data.json, row 1; row 3; row 5; and 3 more: ")


def test_a_row_too_large_to_send_is_checked_where_it_was_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_MOST_SIZE", 1)
    monkeypatch.setattr(row_groups, "_TOO_LARGE_TO_SEND", 10_000)
    monkeypatch.setattr(datasets, "_BYTES_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(processes, "most", lambda: 2)
    here: list[str] = []
    check = conversation

    def noted(dataset: Any, row: Any) -> Any:
        here.append(row["instruction"])  # what other processes append stays with them
        return check(dataset, row)

    monkeypatch.setattr(datasets, "conversation", noted)
    scene.add_dataset("support", [GOOD, {"instruction": "x" * 10_000, "output": "y"}, GOOD])
    write(scene)
    assert here == ["x" * 10_000]
    assert [row["row"] for row in rows_of(scene, "support")] == [1, 2, 3]


def test_a_text_that_a_tokenizer_cannot_part_is_refused(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD | {"input": "x" * 500_001}, GOOD | {"input": "words " * 100_000}])
    assert failure(scene).message == (
        "1 row is invalid: dataset support, file data.json, row 1: a text has more than 500000 characters without a "
        "blank or a punctuation mark among them, and is encoded as one word; take it out"
    )


def test_rows_of_several_files_keep_the_name_and_number_that_their_owner_knows(scene: Scene, tmp_path: Path) -> None:
    scene.add_dataset("support", [])
    for name, count in (("a.json", 2), ("b.json", 1)):
        (tmp_path / name).write_text(json.dumps([GOOD] * count))
    source = dataset_source.Source(tmp_path, ("a.json", "b.json"))
    assert datasets.write_normalised(scene.run, {"support": source}, Thinking("qwen3"))[0] == {"support": 3}
    assert [(row["row"], row["place"]) for row in rows_of(scene, "support")] == [
        (1, "file a.json, row 1"),
        (2, "file a.json, row 2"),
        (3, "file b.json, row 1"),
    ]


def test_the_seed_pages_own_data_passes_with_its_own_columns_and_tags(scene: Scene) -> None:
    chat = {"conversations": [{"from": "human", "value": "user instruction"}, {"from": "gpt", "value": "response"}]}
    row = chat | {"system": "system prompt (optional)", "tools": "tool description (optional)"}
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
    scene.add_dataset("seed", [row], form="sharegpt", tags=tags)
    assert write(scene) == (
        {"seed": 1},
        [
            "dataset seed: 1 of 1 rows have tool descriptions that are no JSON: they became part of the system prompt "
            "(file data.json, row 1)",
        ],
    )
    assert rows_of(scene, "seed")[0]["system"] == "system prompt (optional)\n\ntool description (optional)"


def test_empty_answers_are_counted_in_a_warning(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD, GOOD | {"output": ""}])
    assert write(scene)[1] == [
        "dataset support: 1 of 2 rows have an empty answer: they teach to be silent (file data.json, row 2)"
    ]


def test_a_bad_row_is_named_with_dataset_file_row_and_fix(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD] * 6 + [{"instruction": "Hi"}])
    assert failure(scene).message == (
        "1 row is invalid: dataset support, file data.json, row 7: field 'output' is missing; alpaca rows need "
        "'instruction' and 'output' (the row has instruction; other names go into the dataset's columns)"
    )


def test_a_bad_line_is_named_with_its_line_too(scene: Scene) -> None:
    scene.add_dataset("support", json.dumps(GOOD) + "\n\n{}\n", file_name="data.jsonl")
    assert "row 2 (line 3): field 'instruction' is missing" in failure(scene).message


def test_bad_rows_of_one_kind_are_told_once_with_the_first_places(scene: Scene) -> None:
    scene.add_dataset("one", [GOOD | {"output": 3}, {}, GOOD | {"output": 4}])
    scene.add_dataset("two", [GOOD | {"output": number} for number in range(58)])
    assert failure(scene).message == (
        "61 rows are invalid: dataset one, file data.json, row 1; row 3; dataset two, file data.json, row 1; and 57 "
        "more: field 'output' is a number; expected text; dataset one, file data.json, row 2: field 'instruction' is "
        "missing; alpaca rows need 'instruction' and 'output'"
    )


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
    assert "is a directory; name a file inside it (.json, .jsonl" in failure(scene).message


def test_half_a_surrogate_pair_is_a_bad_row_not_a_crash(scene: Scene) -> None:
    scene.add_dataset("support", '[{"instruction": "Hi", "output": "\\ud83d"}]')
    assert "half of a surrogate pair" in failure(scene).message


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
def test_json_in_a_text_that_is_nested_too_deeply_is_a_bad_row_not_a_crash(scene: Scene, form: str) -> None:
    deep = "[" * 100_000
    chat = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    row = GOOD | {"history": deep} if form == "alpaca" else {"conversations": chat, "tools": deep}
    scene.add_dataset("support", [row], form=form)
    assert failure(scene).message.endswith("row 1: a text in it holds JSON nested too deeply")


def test_a_problem_may_quote_what_cannot_be_printed_and_is_shown_in_short(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.add_dataset("support", '[{"instruction": "Hi", "\\ud83d' + "x" * 5000 + '": 1}]')
    message = failure(scene).message
    assert "row 1: field 'output' is missing" in message
    assert message.endswith("other names go into the dataset's columns)")
    assert len(message) < 600
    assert message.removeprefix("1 row is invalid: ") in capfd.readouterr().out


def test_what_is_noticed_about_rows_is_told_with_what_matters_most_first(scene: Scene) -> None:
    scene.add_dataset("plain", [GOOD, GOOD])
    ended = GOOD | {"output": "Hello<|im_end|>"}
    scene.add_dataset("tea", [GOOD | {"output": ""}, ended, ended | {"sytem": "Be brief."}])
    scene.add_dataset("quiz", [GOOD])
    scene.document["evaluation"] = {"datasets": [scene.document["datasets"].pop()]}
    found = normalised(scene)
    assert found.metrics == {"duplicateSamples": 2, "evalSamplesInTraining": 1}
    assert [warning[:50] for warning in found.warnings] == [
        "dataset tea: nothing reads column 'sytem' (1 of 3 ",
        "dataset tea: 2 of 3 rows hold control tokens in th",
        "dataset tea: 1 of 3 rows have an empty answer: the",
        "dataset plain: 1 of 2 rows repeat an earlier row o",
        "dataset tea: 1 of 3 rows repeat an earlier row of ",
        "dataset quiz: 1 of 1 rows are trained on, too, so ",
    ]


def test_control_tokens_may_be_refused(scene: Scene) -> None:
    scene.add_dataset("tea", [GOOD, GOOD | {"output": "Hello<|im_end|>"}], controlTokens="Refuse")
    assert "row 2: its answer 1 holds <|im_end|>, which the template writes itself" in failure(scene).message


def test_what_the_job_ignores_means_nothing(scene: Scene) -> None:
    told = {"label": False, "weight": 0.3, "loss": False, "reasoning": {"effort": "low"}}
    scene.add_dataset("shop", [GOOD | told], ignore=[*told])
    said = [
        {"role": "user", "content": "Hi", "train": True, "thinking": "no thought"},
        {"role": "assistant", "content": "Hello", "weight": 0.3, "mask": True},
    ]
    ignored = ["train", "thinking", "weight", "mask"]
    scene.add_dataset("chat", [{"messages": said}], form="openai", columns={"messages": "messages"}, ignore=ignored)
    scene.add_dataset(
        "cells", [{"messages": json.dumps(said)}], form="openai", columns={"messages": "messages"}, ignore=ignored
    )
    found = normalised(scene)
    assert found.rows == {"shop": 1, "chat": 1, "cells": 1}
    assert not [warning for warning in found.warnings if "nothing reads" in warning]
    for dataset in scene.document["datasets"]:
        del dataset["ignore"]
    assert "list it under the dataset's ignore" in failure(scene).message


def test_a_column_that_the_job_names_and_no_row_has_is_an_error_beside_those_of_rows(scene: Scene) -> None:
    columns = {"prompt": "instruction", "response": "output", "system": "persona"}
    scene.add_dataset("tea", [GOOD, GOOD | {"system_prompt": "Be brief."}], columns=columns)
    named = (
        "dataset tea: columns.system is 'persona', which no row has; rows have instruction, output, system_prompt. Did "
        "you mean to set columns.system to 'system_prompt'?"
    )
    assert failure(scene).message == named
    scene.add_dataset("bad", [{"instruction": "Hi"}])
    assert failure(scene).message.startswith(named + " 1 row is invalid: dataset bad, ")


def test_usual_columns_that_nothing_reads_are_told_last(scene: Scene) -> None:
    scene.add_dataset("one", [GOOD | {"id": "1", "output": ""}])
    scene.add_dataset("two", [GOOD | {"mood": "calm"}])
    told = write(scene)[1]
    assert ["mood" in told[0], "have an empty answer" in told[1], "nothing reads id" in told[-1]] == [True, True, True]
