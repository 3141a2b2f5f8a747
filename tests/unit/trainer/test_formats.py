"""Alpaca and sharegpt rows become conversations, or a sentence that says what to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.config import Dataset
from qwensft_trainer.formats import RowProblem, conversation

from .conftest import ALPACA_COLUMNS, SEED_TAGS, SHAREGPT_COLUMNS

ALPACA = Dataset(name="a", format="alpaca", path=Path("a.json"), columns=ALPACA_COLUMNS)
SHAREGPT = Dataset(name="s", format="sharegpt", path=Path("s.json"), columns=SHAREGPT_COLUMNS, tags=SEED_TAGS)


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in pairs]}


def problem(dataset: Dataset, row: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        conversation(dataset, row)
    return str(caught.value)


def test_an_alpaca_row_becomes_question_and_answer() -> None:
    row = {"instruction": "Translate.", "input": "Haus", "output": "house", "system": "Be brief."}
    assert conversation(ALPACA, row) == {
        "messages": [
            {"role": "user", "content": "Translate.\nHaus"},
            {"role": "assistant", "content": "house"},
        ],
        "system": "Be brief.",
        "tools": "",
    }


def test_history_comes_before_the_question() -> None:
    row = {"instruction": "And now?", "output": "Yes.", "history": [["Before?", "No."]]}
    assert [message["content"] for message in conversation(ALPACA, row)["messages"]] == [
        "Before?",
        "No.",
        "And now?",
        "Yes.",
    ]


def test_optional_alpaca_fields_may_be_missing_null_or_empty() -> None:
    row: dict[str, Any] = {"instruction": "Hi", "output": "Hello", "input": None, "system": "", "history": []}
    assert len(conversation(ALPACA, row)["messages"]) == 2


def test_columns_can_have_other_names() -> None:
    renamed = ALPACA.model_copy(update={"columns": {"prompt": "q", "response": "a"}})
    assert conversation(renamed, {"q": "1+1?", "a": "2"})["messages"][0]["content"] == "1+1?"
    assert problem(renamed, {"q": "1+1?"}) == "field 'a' is missing; alpaca rows need 'q' and 'a'"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "Hi"}, "field 'output' is missing; alpaca rows need 'instruction' and 'output'"),
        ({"output": "Hi"}, "field 'instruction' is missing; alpaca rows need 'instruction' and 'output'"),
        ({"instruction": "Hi", "output": None}, "field 'output' is null; alpaca rows need 'instruction' and 'output'"),
        ({"instruction": "Hi", "output": 7}, "field 'output' is a number; expected text"),
        ({"instruction": "", "output": "x"}, "field 'instruction' is empty"),
        ({"instruction": "Hi", "output": "x", "system": ["y"]}, "field 'system' is a list; expected text"),
        ({"instruction": "Hi", "output": "x", "history": "y"}, "expected a list of [instruction, response] pairs"),
        (
            {"instruction": "Hi", "output": "x", "history": [["y"]]},
            "field 'history', round 1: expected a pair of texts",
        ),
        (["Hi", "x"], "the row is a list; every row must be a JSON object"),
        (True, "the row is a boolean"),
    ],
)
def test_a_wrong_alpaca_row_says_which_field_and_what_is_expected(row: Any, expected: str) -> None:
    assert expected in problem(ALPACA, row)


@pytest.mark.parametrize("names", [("human", "gpt"), ("user", "assistant"), ("human", "assistant")])
def test_both_spellings_of_roles_work_whatever_the_tags_say(names: tuple[str, str]) -> None:
    value = conversation(SHAREGPT, turns((names[0], "Hi"), (names[1], "Hello")))
    assert [message["role"] for message in value["messages"]] == ["user", "assistant"]


def test_tags_name_other_keys_and_roles() -> None:
    dataset = SHAREGPT.model_copy(
        update={
            "columns": {"messages": "chat"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "customer", "assistant_tag": "agent"},
        }
    )
    row = {"chat": [{"who": "customer", "says": "Hi"}, {"who": "agent", "says": "Hello"}]}
    assert [message["role"] for message in conversation(dataset, row)["messages"]] == ["user", "assistant"]


def test_a_leading_system_message_is_the_system_prompt() -> None:
    value = conversation(SHAREGPT, turns(("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello")))
    assert value["system"] == "Be kind."
    assert len(value["messages"]) == 2


def test_tool_calls_and_observations_take_their_turns() -> None:
    row: dict[str, Any] = turns(
        ("human", "Weather?"), ("function_call", "{}"), ("observation", "sunny"), ("gpt", "It is sunny.")
    )
    row["tools"] = [{"name": "weather"}]
    value = conversation(SHAREGPT, row)
    assert [message["role"] for message in value["messages"]] == ["user", "function_call", "observation", "assistant"]
    assert value["tools"] == '[{"name": "weather"}]'


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            turns(("human", "a"), ("human", "b")),
            "message 2 ('user') follows 'user'; user and assistant turns must alternate",
        ),
        (turns(("gpt", "a"), ("human", "b")), "message 1 ('assistant') comes first"),
        (turns(("system", "s"), ("gpt", "a")), "message 2 ('assistant') comes first"),
        (turns(("human", "a"), ("gpt", "b"), ("human", "c")), "the last message is from 'user'"),
        (turns(("human", "a"), ("bot", "b")), "message 2: 'from' is 'bot'; expected one of assistant, function_call"),
        (turns(), "field 'conversations' holds no conversation"),
        (turns(("system", "s")), "field 'conversations' holds no conversation"),
        ({"conversations": "x"}, "field 'conversations' is text; expected a list of messages"),
        ({"conversations": ["x", "y"]}, "message 1 is text; expected an object with 'from' and 'value'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "message 1: 'value' is a number; expected text"),
        ({"messages": []}, "the row has 'messages': set columns.messages to 'messages'"),
        ({"conversations": [{"role": "user", "content": "x"}]}, "the message has 'role': set tags.role to 'role'"),
        (turns(("human", "a"), ("gpt", "b")) | {"tools": "{"}, "field 'tools' is not valid JSON"),
    ],
)
def test_a_wrong_sharegpt_row_says_which_message_and_why(row: Any, expected: str) -> None:
    assert expected in problem(SHAREGPT, row)
