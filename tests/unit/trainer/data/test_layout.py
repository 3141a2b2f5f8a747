"""A row of another format is answered with all that has to be set, so that the next attempt reads it."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.layout import misfit
from qwensft_trainer.data.row_checks import conversation

from ..conftest import SEED_TAGS

TALK = {
    "sharegpt": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    "openai": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    "mixed": [{"role": "user", "value": "Hi"}, {"role": "assistant", "value": "Hello"}],
}


@pytest.mark.parametrize(
    ("format_", "row", "settings"),
    [
        ("openai", {"conversations": TALK["sharegpt"]}, {"format": "sharegpt"}),
        ("openai", {"messages": TALK["sharegpt"]}, {"format": "sharegpt", "columns.messages": "messages"}),
        ("openai", {"dialog": TALK["openai"]}, {"columns.messages": "dialog"}),
        ("openai", {"messages": TALK["mixed"]},
         {"format": "sharegpt", "columns.messages": "messages", "tags.role": "role"}),
        ("sharegpt", {"messages": TALK["openai"]}, {"format": "openai"}),
        ("sharegpt", {"conversations": TALK["openai"]}, {"format": "openai", "columns.messages": "conversations"}),
        ("sharegpt", {"messages": TALK["sharegpt"]}, {"columns.messages": "messages"}),
        ("sharegpt", {"conversations": TALK["mixed"]}, {"tags.role": "role"}),
        ("alpaca", {"conversations": TALK["sharegpt"]}, {"format": "sharegpt"}),
        ("alpaca", {"chat": TALK["openai"]}, {"format": "openai", "columns.messages": "chat"}),
        ("sharegpt", {"instruction": "Hi", "output": "Hello"}, {"format": "alpaca"}),
        ("openai", {"conversations": str(TALK["sharegpt"]).replace("'", '"')}, {"format": "sharegpt"}),
    ],
)  # fmt: skip
def test_what_is_told_to_set_is_enough(format_: Any, row: dict[str, Any], settings: dict[str, str]) -> None:
    said = misfit(Dataset(name="d", format=format_), row) or ""
    wanted = [
        f"the dataset's format to {value}" if name == "format" else f"{name} to '{value}'"
        for name, value in settings.items()
    ]
    told = said.rpartition(": set ")[2].replace(" and ", ", ").split(", ")
    assert told == wanted
    followed = Dataset(
        name="d",
        format=settings.get("format", format_),
        columns={"messages": settings["columns.messages"]} if "columns.messages" in settings else {},
        tags={"role_tag": settings["tags.role"]} if "tags.role" in settings else {},
    )
    assert len(conversation(followed, row).messages) == 2


@pytest.mark.parametrize(
    ("format_", "row", "columns"),
    [
        ("alpaca", {"question": "Hi", "answer": "Hello"}, {"prompt": "question", "response": "answer"}),
        ("alpaca", {"instruction": "Hi", "response": "Hello"}, {"response": "response"}),
        ("alpaca", {"Question": "Hi", "Response": "Hello"}, {"prompt": "Question", "response": "Response"}),
        ("openai", {"prompt": "Hi", "completion": "Hello"}, {"prompt": "prompt", "response": "completion"}),
    ],
)
def test_questions_and_answers_of_other_names_are_told_at_once(
    format_: Any, row: dict[str, Any], columns: dict[str, str]
) -> None:
    said = misfit(Dataset(name="d", format=format_), row) or ""
    settings = [f"columns.{part} to '{name}'" for part, name in columns.items()]
    settings = [*(["the dataset's format to alpaca"] if format_ != "alpaca" else []), *settings]
    assert said.rpartition(": set ")[2].replace(" and ", ", ").split(", ") == settings
    assert conversation(Dataset(name="d", format="alpaca", columns=columns), row).messages[1]["content"] == "Hello"


def test_a_question_and_an_answer_apart_are_to_be_joined() -> None:
    asked, said = ([message] for message in TALK["openai"])
    assert misfit(Dataset(name="d", format="openai"), {"messages": asked, "completion": said}) == (
        "the row has its question in 'messages' and its answer in 'completion': append the one to the other"
    )
    assert (misfit(Dataset(name="d", format="sharegpt"), {"prompt": asked, "completion": said}) or "").endswith(
        "append the one to the other, and set the dataset's format to openai and columns.messages to 'prompt'"
    )


def test_a_row_of_plain_text_has_no_answer() -> None:
    assert (misfit(Dataset(name="d", format="openai"), {"text": "Hi"}) or "").startswith("the row is one 'text', and ")


def test_tags_of_the_jobs_own_are_kept_and_completed() -> None:
    dataset = Dataset(name="d", format="sharegpt", tags=SEED_TAGS)
    assert (misfit(dataset, {"conversations": TALK["openai"]}) or "").endswith(
        ": set tags.role to 'role' and tags.content to 'content'"
    )


@pytest.mark.parametrize(
    ("format_", "row"),
    [
        ("alpaca", {"instruction": 7, "output": "Hello", "conversations": TALK["sharegpt"]}),
        ("sharegpt", {"conversations": TALK["sharegpt"], "messages": TALK["openai"]}),
        ("sharegpt", {"conversations": "no list", "messages": TALK["openai"]}),
        ("openai", {"messages": TALK["openai"]}),
        ("openai", {"messages": []}),
        ("openai", {"messages": None, "conversations": TALK["sharegpt"]}),
        ("sharegpt", {"conversations": TALK["sharegpt"][::-1]}),
        ("openai", {}),
    ],
)
def test_a_row_of_the_datasets_format_and_one_of_none_are_left_to_the_checks(format_: Any, row: dict[str, Any]) -> None:
    assert misfit(Dataset(name="d", format=format_), row) is None
