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
        ("openai", {"text": "Hi"}),
        ("openai", {"messages": []}),
        ("openai", {}),
    ],
)
def test_a_row_of_the_datasets_format_and_one_of_none_are_left_to_the_checks(format_: Any, row: dict[str, Any]) -> None:
    assert misfit(Dataset(name="d", format=format_), row) is None
