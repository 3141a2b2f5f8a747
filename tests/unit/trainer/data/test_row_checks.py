"""Alpaca, sharegpt and OpenAI rows become conversations, or a sentence that says what to mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.row_checks import (
    COLUMN_OF_THOUGHTS,
    EMPTY_ANSWER,
    EMPTY_QUESTION,
    PLAIN_TOOLS,
    Conversation,
    conversation,
)
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.turns import JOINED_QUESTIONS

from ..conftest import ALPACA_COLUMNS, SEED_TAGS, SHAREGPT_COLUMNS

ALPACA = Dataset(name="a", format="alpaca", path=Path("a.json"), columns=ALPACA_COLUMNS)
SHAREGPT = Dataset(name="s", format="sharegpt", path=Path("s.json"), columns=SHAREGPT_COLUMNS, tags=SEED_TAGS)

CALL = '{"name": "weather", "arguments": {"city": "Bonn"}}'


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in pairs]}


def problem(dataset: Dataset, row: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        conversation(dataset, row)
    return str(caught.value)


def test_an_alpaca_row_becomes_question_and_answer() -> None:
    row = {"instruction": "Translate.", "input": "Haus", "output": "house", "system": "Be brief."}
    assert conversation(ALPACA, row) == Conversation(
        messages=[{"role": "user", "content": "Translate.\nHaus"}, {"role": "assistant", "content": "house"}],
        system="Be brief.",
    )


def test_history_comes_before_the_question() -> None:
    row = {"instruction": "And now?", "output": "Yes.", "history": [["Before?", "No."]]}
    assert [message["content"] for message in conversation(ALPACA, row).messages] == [
        "Before?",
        "No.",
        "And now?",
        "Yes.",
    ]


def test_optional_alpaca_fields_may_be_missing_null_or_empty() -> None:
    row: dict[str, Any] = {"instruction": "Hi", "output": "Hello", "input": None, "system": "", "history": []}
    assert len(conversation(ALPACA, row).messages) == 2


def test_columns_can_have_other_names() -> None:
    renamed = Dataset(name="a", format="alpaca", columns={"prompt": "q", "response": "a"})
    assert conversation(renamed, {"q": "1+1?", "a": "2"}).messages[0]["content"] == "1+1?"
    assert problem(renamed, {"q": "1+1?"}) == (
        "field 'a' is missing; alpaca rows need 'q' and 'a' (the row has q; other names go into the dataset's columns)"
    )


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
        ([{"from": "human"}], 'every row must be a JSON object; write its messages as {"messages": [...]}'),
        (True, "the row is a boolean"),
    ],
)
def test_a_wrong_alpaca_row_says_which_field_and_what_is_expected(row: Any, expected: str) -> None:
    assert expected in problem(ALPACA, row)


@pytest.mark.parametrize("names", [("human", "gpt"), ("user", "assistant"), ("human", "assistant")])
def test_both_spellings_of_roles_work_whatever_the_tags_say(names: tuple[str, str]) -> None:
    value = conversation(SHAREGPT, turns((names[0], "Hi"), (names[1], "Hello")))
    assert [message["role"] for message in value.messages] == ["user", "assistant"]


def test_tags_name_other_keys_and_roles() -> None:
    dataset = Dataset(
        name="s",
        format="sharegpt",
        columns={"messages": "chat"},
        tags={"role_tag": "who", "content_tag": "says", "user_tag": "customer", "assistant_tag": "agent"},
    )
    row = {"chat": [{"who": "customer", "says": "Hi"}, {"who": "agent", "says": "Hello"}]}
    assert [message["role"] for message in conversation(dataset, row).messages] == ["user", "assistant"]


@pytest.mark.parametrize("column", [None, " ", "Be kind.\n"])
def test_a_leading_system_message_is_the_system_prompt(column: str | None) -> None:
    row = turns(("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello")) | {"system": column}
    value = conversation(SHAREGPT, row)
    assert value.system == "Be kind."
    assert len(value.messages) == 2


def test_two_system_prompts_are_refused() -> None:
    row = turns(("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello")) | {"system": "Be brief."}
    assert problem(SHAREGPT, row) == (
        "it has a system prompt in the column 'system' and another in its first message; leave one of the two"
    )


@pytest.mark.parametrize("format_", ["alpaca", "sharegpt", "openai"])
def test_system_tools_and_media_are_read_in_every_format_without_being_named(format_: Any) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = {"instruction": "Hi", "output": "Hello", "messages": said, **turns(("human", "Hi"), ("gpt", "Hello"))}
    more = {"system": "Be kind.", "tools": [{"name": "shop"}], "images": ["a.png"], "videos": ["a.mp4"]}
    value = conversation(Dataset(name="d", format=format_), row | more)
    assert (value.system, json.loads(value.tools)[0]["function"]) == ("Be kind.", {"name": "shop"})
    assert (value.images, value.videos) == (["a.png"], ["a.mp4"])


def test_a_wish_about_a_whole_row_is_looked_at() -> None:
    assert problem(ALPACA, {"instruction": "Hi", "output": "Hello", "weight": 0.5}).startswith("'weight' gives the row")


def test_tool_calls_and_observations_take_their_turns() -> None:
    row: dict[str, Any] = turns(
        ("human", "Weather?"), ("function_call", CALL), ("observation", "sunny"), ("gpt", "It is sunny.")
    )
    row["tools"] = [{"name": "weather"}]
    value = conversation(SHAREGPT, row)
    assert [message["role"] for message in value.messages] == ["user", "function_call", "observation", "assistant"]
    assert json.loads(value.tools) == [{"type": "function", "function": {"name": "weather"}}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            turns(("human", "a"), ("gpt", "b"), ("gpt", "c")),
            "message 3 ('assistant') follows 'assistant'; user and assistant turns must alternate",
        ),
        (turns(("gpt", "a"), ("human", "b")), "message 1 ('assistant') comes first"),
        (turns(("system", "s"), ("gpt", "a")), "message 2 ('assistant') comes first"),
        (turns(("human", "a"), ("gpt", "b"), ("human", "c")), "the last message is from 'user'"),
        (turns(("human", "a"), ("bot", "b")), "message 2: 'from' is 'bot'; expected one of assistant, function_call"),
        (turns(("My name is Jane.", "a"), ("gpt", "b")), "message 1: 'from' is text; expected one of assistant"),
        (turns(), "field 'conversations' holds no conversation"),
        (turns(("system", "s")), "field 'conversations' holds no conversation"),
        ({"conversations": "x"}, "field 'conversations' is text; expected a list of messages"),
        ({"conversations": ["x", "y"]}, "message 1 is text; expected an object with 'from' and 'value'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "message 1: 'value' is a number; expected text"),
        ({"messages": []}, "field 'conversations' is missing; sharegpt rows need it (the row has messages;"),
        (
            {"conversations": [{"role": "user", "content": "x"}]},
            "set tags.role to 'role' and tags.content to 'content'",
        ),
        (turns(("human", "a"), ("gpt", "b")) | {"tools": ["x"]}, "field 'tools' lists text; every tool must be"),
        (turns(("human", "a"), ("function_call", "{}")), "message 2: function call 1 needs a name, such as"),
        (turns(("human", "a"), ("function_call", "call it")), "message 2: a function call must be JSON, such as"),
        ({"conversations": [{"from": "human", "value": [{"type": "text"}]}]}, "set the dataset's format to openai"),
        (
            {"conversations": [{"from": "gpt", "value": "", "tool_calls": [{}]}]},
            "it has 'tool_calls'; set the dataset's format to openai",
        ),
        ({"conversations": "[{]"}, "field 'conversations' is not valid JSON"),
        ({"conversations": [{"speaker": "a", "says": "b"}]}, "(the message has 'speaker', 'says'; other names go into"),
    ],
)
def test_a_wrong_sharegpt_row_says_which_message_and_why(row: Any, expected: str) -> None:
    assert expected in problem(SHAREGPT, row)


def test_tool_descriptions_that_are_no_json_join_the_system_prompt() -> None:
    row = turns(("human", "a"), ("gpt", "b")) | {"system": "Be brief.", "tools": "tool description (optional)"}
    value = conversation(SHAREGPT, row)
    assert (value.system, value.tools) == ("Be brief.\n\ntool description (optional)", "")
    assert value.remarks == (PLAIN_TOOLS,)


@pytest.mark.parametrize("tools", [None, "", "[]", [], "null", "{}", {}])
def test_no_tools_come_in_many_spellings(tools: Any) -> None:
    value = conversation(SHAREGPT, turns(("human", "a"), ("gpt", "b")) | {"tools": tools})
    assert (value.system, value.tools, value.remarks) == ("", "", ())


def test_one_tool_needs_no_list() -> None:
    value = conversation(SHAREGPT, turns(("human", "a"), ("gpt", "b")) | {"tools": '{"name": "weather"}'})
    assert json.loads(value.tools) == [{"type": "function", "function": {"name": "weather"}}]


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "weather", "parameters": {}},
        {"function": {"name": "weather", "parameters": {}}},
        {"type": "function", "name": "weather", "parameters": {}},
        {"type": "function", "function": {"name": "weather", "parameters": {}}},
    ],
)
def test_tools_are_described_as_servers_are_given_them(tool: dict[str, Any]) -> None:
    value = conversation(SHAREGPT, turns(("human", "a"), ("gpt", "b")) | {"tools": [tool]})
    assert json.loads(value.tools) == [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def test_an_empty_answer_is_remarked() -> None:
    assert conversation(ALPACA, {"instruction": "Hi", "output": " "}).remarks == (EMPTY_ANSWER,)


def test_lists_may_be_json_text_as_in_csv_files() -> None:
    row = {"conversations": '[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]'}
    assert len(conversation(SHAREGPT, row).messages) == 2
    row = {"instruction": "And now?", "output": "Yes.", "input": "", "history": '[["Before?", "No."]]'}
    assert len(conversation(ALPACA, row).messages) == 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("", []),
        ("a.png", ["a.png"]),
        ('["a.png", "b.png"]', ["a.png", "b.png"]),
        ([{"bytes": b"x", "path": "a.png"}, {"bytes": None, "path": "b.png"}], [b"x", "b.png"]),
        ({"bytes": b"x", "path": None}, [b"x"]),
        (["file:///a.png", "data:image/png;base64,eA=="], ["/a.png", b"x"]),
    ],
)
def test_images_are_names_bytes_or_both(value: Any, expected: list[Any]) -> None:
    assert conversation(ALPACA, {"instruction": "<image>", "output": "x", "images": value}).images == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["https://x.example/a.png"], "field 'images': an entry is an address; copy the file beside the dataset"),
        ([3], "field 'images': an entry is a number; expected the name of a file"),
        ([{"bytes": None, "path": None}], "field 'images': an entry is empty"),
        (["data:image/png,x"], "a data: URL cannot be decoded"),
        (3, "field 'images' is a number; expected a list of file names"),
    ],
)
def test_what_is_no_image_is_explained(value: Any, expected: str) -> None:
    assert expected in problem(ALPACA, {"instruction": "<image>", "output": "x", "images": value})


def test_the_seed_pages_own_examples_pass_as_they_are() -> None:
    round_of = ["user instruction in the {} round (optional)", "model response in the {} round (optional)"]
    alpaca = {
        "instruction": "user instruction (required)",
        "input": "user input (optional)",
        "output": "model response (required)",
        "system": "system prompt (optional)",
        "history": [[text.format(which) for text in round_of] for which in ("first", "second")],
    }
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "user instruction"},
            {"from": "gpt", "value": "model response"},
        ],
        "system": "system prompt (optional)",
        "tools": "tool description (optional)",
    }
    assert len(conversation(ALPACA, alpaca).messages) == 6
    # Its tags name no tags for the other roles, as a dataset_info.json may.
    tags = {key: SEED_TAGS[key] for key in ("role_tag", "content_tag", "user_tag", "assistant_tag")}
    dataset = Dataset(name="s", format="sharegpt", columns=SHAREGPT_COLUMNS, tags=tags)
    assert conversation(dataset, sharegpt).messages == [
        {"role": "user", "content": "user instruction"},
        {"role": "assistant", "content": "model response"},
    ]


THOUGHT = {"role": "assistant", "content": "<think>\nBy the list.\n</think>\n\nFriday."}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_under_a_key_of_their_own_are_read_in_every_format(key: str) -> None:
    row: dict[str, Any] = turns(("human", "When?"), ("gpt", "Friday."))
    row["conversations"][1][key] = "By the list."
    assert conversation(SHAREGPT, row).messages[1] == THOUGHT
    alpaca = conversation(ALPACA, {"instruction": "When?", "output": "Friday.", key: "By the list.\n"})
    assert alpaca.messages[1] == THOUGHT
    assert alpaca.remarks == (COLUMN_OF_THOUGHTS.format(key),)


def test_a_column_that_is_named_as_something_else_holds_no_thoughts() -> None:
    dataset = Dataset(name="a", format="alpaca", columns={"response": "reasoning"})
    assert conversation(dataset, {"instruction": "When?", "reasoning": "Friday."}).messages[1]["content"] == "Friday."


def test_a_call_may_be_an_object() -> None:
    row: dict[str, Any] = turns(("human", "Weather?"), ("function_call", ""), ("observation", "sun"), ("gpt", "Sunny."))
    row["conversations"][1]["value"] = {"name": "weather", "arguments": {"city": "Bonn"}}
    assert conversation(SHAREGPT, row).messages[1]["content"] == f"<tool_call>[{CALL}]</tool_call>"


def test_tags_around_a_result_are_the_templates() -> None:
    text = "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nrainy\n</tool_response>"
    row = turns(("human", "Weather?"), ("function_call", CALL), ("observation", text), ("gpt", "Mixed."))
    assert conversation(SHAREGPT, row).messages[2]["content"] == "sunny\n</tool_response>\n<tool_response>\nrainy"


def test_user_messages_in_a_row_become_one() -> None:
    value = conversation(SHAREGPT, turns(("human", "Look:"), ("human", "a vase."), ("gpt", "Nice.")))
    assert value.messages[0]["content"] == "Look:\na vase."
    assert value.remarks == (JOINED_QUESTIONS,)


def test_a_column_may_be_switched_off() -> None:
    row = turns(("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello")) | {"system": "Be brief."}
    assert conversation(Dataset(name="d", format="sharegpt", columns={"system": None}), row).system == "Be kind."


def test_one_result_without_ids_may_be_of_all_calls() -> None:
    row = turns(
        ("human", "Weather?"), ("function_call", f"[{CALL}, {CALL}]"), ("observation", "all"), ("gpt", "Mixed.")
    )
    assert conversation(SHAREGPT, row).remarks == ()


def test_empty_texts_are_told_wherever_they_stand() -> None:
    row = {"instruction": "Hi", "output": "Hello", "history": [["Who?", ""], ["", "Me."]]}
    assert conversation(ALPACA, row).remarks == (EMPTY_ANSWER, EMPTY_QUESTION)


@pytest.mark.parametrize("thoughts", [["The log says so."], {"text": "The log says so."}])
def test_thoughts_that_are_no_text_are_refused(thoughts: object) -> None:
    assert "'reasoning' is a" in problem(ALPACA, {"instruction": "Hi", "output": "Hello", "reasoning": thoughts})


def test_thoughts_without_blanks_are_thoughts() -> None:
    row = {"instruction": "窑要冷却多久?", "output": "十一个小时。", "reasoning_content": "日志写着十一个小时"}
    assert conversation(ALPACA, row).messages[1]["content"].startswith("<think>\n日志写着十一个小时\n</think>")


def test_a_schema_has_the_name_that_models_know() -> None:
    tool = {"name": "kiln", "description": "Fires.", "input_schema": {"type": "object"}}
    found = conversation(ALPACA, {"instruction": "Hi", "output": "Hello", "tools": [tool]})
    function = {"name": "kiln", "description": "Fires.", "parameters": {"type": "object"}}
    assert json.loads(found.tools) == [{"type": "function", "function": function}]


@pytest.mark.parametrize("tool", [{}, {"description": "Fires."}, {"function": "kiln"}])
def test_a_tool_needs_a_name(tool: object) -> None:
    row = {"instruction": "Hi", "output": "Hello", "tools": [{"name": "kiln"}, tool]}
    assert "field 'tools', tool 2 has no name" in problem(ALPACA, row)
