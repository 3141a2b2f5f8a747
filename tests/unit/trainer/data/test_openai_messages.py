"""Messages in OpenAI's form keep everything that is to be learned: parts, tool calls, results and reasoning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.row_checks import Conversation, conversation
from qwensft_trainer.data.row_fields import RowProblem

DATASET = Dataset(name="o", format="openai", path=Path("o.jsonl"))
USER = {"role": "user", "content": "Weather in Bonn and Ulm?"}
ANSWER = {"role": "assistant", "content": "Sunny."}


def call(city: str, **more: Any) -> dict[str, Any]:
    return {
        "id": city,
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": city})},
    } | more


def read(*messages: dict[str, Any], **row: Any) -> Conversation:
    return conversation(DATASET, {"messages": list(messages)} | row)


def problem(*messages: dict[str, Any]) -> str:
    with pytest.raises(RowProblem) as caught:
        read(*messages)
    return str(caught.value)


def called(value: Conversation) -> list[dict[str, Any]]:
    text = value.messages[1]["content"]
    assert text.startswith("<tool_call>[")
    assert text.endswith("]</tool_call>")
    return list(json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>")))


def test_roles_and_a_system_message() -> None:
    value = read({"role": "developer", "content": "Be brief."}, USER, ANSWER)
    assert value == Conversation(messages=[USER, ANSWER], system="Be brief.")


def test_calls_and_their_results_are_one_turn_each() -> None:
    value = read(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call("Bonn"), call("Ulm")]},
        {"role": "tool", "tool_call_id": "Bonn", "content": "sunny"},
        {"role": "tool", "tool_call_id": "Ulm", "content": "rainy"},
        ANSWER,
        tools=[{"type": "function", "function": {"name": "weather"}}],
    )
    assert [message["role"] for message in value.messages] == ["user", "function_call", "observation", "assistant"]
    assert called(value) == [
        {"name": "weather", "arguments": {"city": "Bonn"}},
        {"name": "weather", "arguments": {"city": "Ulm"}},
    ]
    assert value.messages[2]["content"] == "sunny\n</tool_response>\n<tool_response>\nrainy"
    assert json.loads(value.tools)[0]["function"] == {"name": "weather"}


def test_what_is_said_or_thought_before_a_call_is_kept() -> None:
    said = {"role": "assistant", "content": "Let me look.", "tool_calls": [call("Bonn")]}
    text = read(USER, said).messages[1]["content"]
    assert text == 'Let me look.\n<tool_call>[{"name": "weather", "arguments": {"city": "Bonn"}}]</tool_call>'
    thought = {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call("Bonn")]}
    assert read(USER, thought).messages[1]["content"].startswith("<think>\nHm.\n</think>\n\n<tool_call>[{")


def test_reasoning_is_put_where_the_template_expects_it() -> None:
    answer = ANSWER | {"reasoning_content": "\nIt is summer.\n"}
    assert read(USER, answer).messages[1]["content"] == "<think>\nIt is summer.\n</think>\n\nSunny."


@pytest.mark.parametrize("arguments", ['{"city": "Bonn"}', {"city": "Bonn"}])
def test_arguments_may_be_text_or_an_object(arguments: Any) -> None:
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": arguments}}]}
    assert called(read(USER, message))[0]["arguments"] == {"city": "Bonn"}


def test_results_come_in_the_order_of_their_calls() -> None:
    asked = {"role": "assistant", "tool_calls": [call("Bonn"), call("Ulm")]}
    results = [{"role": "tool", "tool_call_id": city, "content": f"in {city}"} for city in ("Ulm", "Bonn")]
    value = read(USER, asked, *results, ANSWER)
    assert value.messages[2]["content"] == "in Bonn\n</tool_response>\n<tool_response>\nin Ulm"
    without = [result | {"tool_call_id": None} for result in results]
    assert read(USER, asked, *without, ANSWER).messages[2]["content"].startswith("in Ulm")
    assert "message 3: its tool_call_id is that of no call before it" in problem(
        USER, asked, {"role": "tool", "tool_call_id": "Kiel", "content": "?"}, ANSWER
    )


def test_a_user_message_of_results_in_tags_is_a_result() -> None:
    asked = {"role": "assistant", "content": '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'}
    value = read(USER, asked, USER | {"content": "<tool_response>\nsunny\n</tool_response>"}, ANSWER)
    assert value.messages[2] == {"role": "observation", "content": "sunny"}


def test_parts_may_have_no_type() -> None:
    value = read({"role": "user", "content": [{"image": "a.png"}, {"text": "What?"}]}, ANSWER)
    assert (value.messages[0]["content"], value.images) == ("<image>What?", ["a.png"])


def test_the_older_form_of_a_call_is_one() -> None:
    message = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    assert called(read(USER, message)) == [{"name": "weather", "arguments": {}}]


def test_thoughts_may_be_parts() -> None:
    parts = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "text", "text": "Sunny."}]
    assert read(USER, ANSWER | {"content": parts}).messages[1]["content"] == "<think>\nHm.\n</think>\n\nSunny."


@pytest.mark.parametrize("arguments", ["", None])
def test_a_call_may_have_no_arguments(arguments: Any) -> None:
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "time", "arguments": arguments}}]}
    assert called(read(USER, message))[0]["arguments"] == {}


def test_an_answer_with_weight_zero_is_not_learnt() -> None:
    messages = read(USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1}, USER, ANSWER | {"weight": 0}).messages
    assert messages == [USER, ANSWER | {"learn": False}, USER, ANSWER]


def test_the_nulls_of_a_parquet_struct_are_no_fields() -> None:
    nulls: dict[str, Any] = {"tool_calls": None, "reasoning_content": None, "name": None, "function_call": None}
    assert read(USER | nulls, ANSWER | nulls).messages == [USER, ANSWER]


def test_parts_become_text_with_placeholders() -> None:
    value = read(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Compare "},
                {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
                {"type": "text", "text": " with "},
                {"type": "image", "image": {"bytes": b"x", "path": None}},
                {"type": "video", "video": "c.mp4", "text": None},
                "!",
            ],
        },
        ANSWER,
    )
    assert value.messages[0]["content"] == "Compare <image> with <image><video>!"
    assert (value.images, value.videos) == (["a.png", b"x"], ["c.mp4"])


def test_parts_may_hold_what_they_hold_as_their_value() -> None:
    parts = [{"type": "image_url", "value": "tea.jpg"}, {"type": "text", "value": "Which?"}]
    value = conversation(DATASET, {"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert (value.messages[0]["content"], value.images) == ("<image>Which?", ["tea.jpg"])


def test_a_part_without_a_source_marks_the_place_of_an_image_in_the_column() -> None:
    value = read(
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}, ANSWER, images=["a.png"]
    )
    assert (value.messages[0]["content"], value.images) == ("<image>?", ["a.png"])


def test_images_in_two_places_have_no_order() -> None:
    with pytest.raises(RowProblem, match="it has images in a column and in its messages"):
        read({"role": "user", "content": [{"type": "image", "image": "b.png"}]}, ANSWER, images=["a.png"])


PICTURE = {"type": "image", "image": "a.png"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER, {"role": "assistant", "content": None}], "message 2: 'content' is missing or null"),
        (
            [USER, {"role": "assistant", "tool_calls": [call("Bonn")]}, {"role": "tool", "content": {"sky": "blue"}}],
            "message 3: 'content' is an object; expected text or a list of parts, such as its JSON as text",
        ),
        ([USER, {"role": "assistant", "content": 3}], "message 2: 'content' is a number"),
        ([USER, {"role": "bot", "content": "x"}], "message 2: 'role' is 'bot'; expected one of assistant"),
        ([USER | {"tool_calls": [call("Bonn")]}, ANSWER], "message 1: a message from 'user' has tool_calls"),
        ([USER, {"role": "assistant", "tool_calls": [{}]}], "message 2: function call 1 needs a name"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": "{"}}]}],
            "message 2: function call 1: the arguments are not valid JSON",
        ),
        ([USER, ANSWER | {"weight": 0}], "none of its answers is to be learned; take the row out"),
        (
            [USER, ANSWER | {"function_call": {"name": "w"}, "tool_calls": [call("Bonn")]}],
            "message 2: it has 'tool_calls' and 'function_call', their older form; leave one of the two",
        ),
        ([USER | {"content": [{"type": "thinking", "thinking": "x"}]}, ANSWER], "message 1: a message from 'user' has"),
        (
            [USER, ANSWER | {"reasoning": "a", "content": [{"type": "thinking", "thinking": "b"}]}],
            "message 2: it has thoughts under a key of their own and in its parts",
        ),
        (
            [
                USER,
                {"role": "assistant", "tool_calls": [call("Bonn")], "content": '<tool_call>{"name": "w"}</tool_call>'},
            ],
            "message 2: it has calls under 'tool_calls' and in the tags of its text; leave one of the two",
        ),
        ([USER, ANSWER | {"reasoning": "a", "thinking": "b"}], "'reasoning' and 'thinking' hold different thoughts"),
        (
            [USER, ANSWER | {"reasoning": "a", "content": "<think>b</think>c"}],
            "message 2: it has thoughts under a key of their own and in its text",
        ),
        (
            [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": ["a"]}}]}],
            "message 2: function call 1: the arguments are a list; expected an object",
        ),
        ([USER, ANSWER | {"reasoning_content": 3}], "message 2: 'reasoning_content' is a number"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}, ANSWER], "part 1 is of type 'input_audio'"),
        (
            [{"role": "user", "content": [{"type": "text", "text": None}]}, ANSWER],
            "part 1 is of type text and has no text",
        ),
        ([USER, ANSWER, ANSWER], "message 3 ('assistant') follows 'assistant'"),
        ([{"role": "system", "content": "x"}, USER, {"role": "system", "content": "y"}], "message 3 ('system')"),
        ([USER], "the last message is from 'user'"),
        (
            [{"role": "system", "content": [PICTURE]}, USER, ANSWER],
            "message 1: a message from 'system' can hold no images",
        ),
        (
            [USER, {"role": "assistant", "content": [PICTURE], "tool_calls": [call("Bonn")]}],
            "message 2: a message from 'assistant' with tool_calls can hold no images",
        ),
    ],
)
def test_a_wrong_message_is_named(messages: list[dict[str, Any]], expected: str) -> None:
    assert expected in problem(*messages)


def test_a_row_without_messages_names_what_it_has() -> None:
    with pytest.raises(RowProblem, match=r"field 'messages' is missing; openai rows need it \(the row has chat;"):
        conversation(DATASET, {"chat": "Hi"})
