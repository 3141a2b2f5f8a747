"""The rows of examples/cookbook: good by the trainer's own judgement, and right in what they teach."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.cookbook.tasks import COOKBOOK, TASKS, Task

from qwensft.cli import checking, documents

CHINESE = re.compile("[\u4e00-\u9fff]")


def rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(lines)) if path.suffix == ".csv" else list(map(json.loads, lines))


def rows_of(name: str) -> list[dict[str, Any]]:
    return [row for path in Task(name).files.values() for row in rows(path)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_job_and_rows_pass_the_check_without_a_warning(task: Task) -> None:
    manifests = documents.read(str(task.folder / "job.yaml"))
    found = checking.check(manifests.jobs[0], manifests, task.files, None, None)
    assert (found.problems, found.warnings, found.unseen) == ([], [], {})
    assert found.rows == {name: len(rows(path)) for name, path in task.files.items()}
    assert found.memory["fits"] is True


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_there_are_enough_rows_to_see_a_task_and_no_two_alike(task: Task) -> None:
    every = [json.dumps(row, sort_keys=True) for row in rows_of(task.name)]
    assert 20 <= len(set(every)) == len(every) <= 40


def test_some_answer_of_the_support_bot_stays_unlearnt_and_some_conversations_go_on() -> None:
    talks = [row["conversations"] for row in rows_of("support-bot")]
    assert sum(len(talk) > 2 for talk in talks) >= 8
    assert sum(turn.get("train") is False for talk in talks for turn in talk) == 1
    assert len({row["system"] for row in rows_of("support-bot")}) == 1


def test_who_goes_on_learns_what_is_new_and_keeps_some_of_what_was_before() -> None:
    before, now = ([json.dumps(row, sort_keys=True) for row in rows_of(name)] for name in ("support-bot", "continuing"))
    assert 5 <= len(set(before) & set(now)) <= len(now) / 4
    assert {row["system"] for row in rows_of("continuing")} == {row["system"] for row in rows_of("support-bot")}
    asked = [row["conversations"][0]["value"] for row in rows_of("continuing")]
    assert len(set(asked)) == len(asked), "nothing is learnt in its old form beside its new one"


def calls(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for message in row["messages"] for call in message.get("tool_calls", [])]


def test_every_call_is_of_a_tool_that_the_row_describes_with_arguments_that_it_takes() -> None:
    for row in rows_of("tool-calling"):
        described = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        for call in calls(row):
            parameters, given = described[call["function"]["name"]], json.loads(call["function"]["arguments"])
            assert set(parameters["required"]) <= set(given) <= set(parameters["properties"])
            for name, value in given.items():
                assert value in parameters["properties"][name].get("enum", [value])


def test_tools_are_called_once_several_at_once_and_not_at_all() -> None:
    at_once = {
        max((len(message.get("tool_calls", [])) for message in row["messages"]), default=0)
        for row in rows_of("tool-calling")
    }
    assert {0, 1, 2, 3} <= at_once
    results = [message for row in rows_of("tool-calling") for message in row["messages"] if message["role"] == "tool"]
    assert any("error" in result["content"] or "timeout" in result["content"] for result in results)
    # What cannot be undone is confirmed by the user's last words before it.
    for row in rows_of("tool-calling"):
        for before, message in zip(row["messages"], row["messages"][1:], strict=False):
            moves = any(call["function"]["name"] == "create_transfer" for call in message.get("tool_calls", []))
            assert not moves or before["role"] == "tool" or before["content"] == "yes"


def test_every_extraction_is_json_with_the_same_keys() -> None:
    for row in rows_of("json-extraction"):
        found = json.loads(row["output"])
        assert list(found) == ["customer", "po_number", "items", "deliver_by", "remark"]
        assert all(f'"{key}"' in row["system"] for key in found)
        assert all(set(item) == {"sku", "quantity"} and item["sku"] in row["input"] for item in found["items"])
        assert found["deliver_by"] is None or re.fullmatch(r"2026-\d\d-\d\d", found["deliver_by"])
        for value in (found["customer"], found["po_number"]):
            assert value is None or value in row["input"]
    assert any(not json.loads(row["output"])["items"] for row in rows_of("json-extraction"))


def test_every_label_stands_in_the_prompt_and_occurs_in_both_languages() -> None:
    prompt = Task("classification").document["spec"]["extraArguments"]["default_system"]
    found = Counter((row["label"], bool(CHINESE.search(row["text"]))) for row in rows_of("classification"))
    labels = {label for label, _ in found}
    assert labels == set(re.findall(r"[a-z]+", prompt.partition("one word:")[2])) - {"or"}
    assert all(found[label, chinese] >= 3 for label in labels for chinese in (False, True))


def test_every_answer_of_the_reasoning_rows_has_thoughts_that_end() -> None:
    for row in rows_of("reasoning"):
        assert re.fullmatch(r"<think>\n.+\n</think>\n\n\S.*", row["output"], re.DOTALL)


def test_receipts_are_small_pictures_that_rows_of_one_side_alone_name() -> None:
    files = Task("receipts").files
    named = {name: {image for row in rows(path) for image in row["images"]} for name, path in files.items()}
    assert named["rows"] & named["held-out"] == set()
    there = {f"images/{path.name}" for path in (COOKBOOK / "receipts" / "images").iterdir()}
    assert named["rows"] | named["held-out"] == there
    for name in there:
        path = COOKBOOK / "receipts" / name
        assert path.stat().st_size < 20_000
        with Image.open(path) as image:
            image.verify()


def test_the_script_writes_the_receipts_that_are_here(receipts: Any) -> None:
    assert {name: (COOKBOOK / "receipts" / name).read_text(encoding="utf-8") for name in receipts.files()} == (
        receipts.files()
    )
    for number, receipt in enumerate(receipts.RECEIPTS, start=1):
        with Image.open(COOKBOOK / "receipts" / receipts.image_name(number)) as image:
            assert image.size == receipts.draw(receipt).size
