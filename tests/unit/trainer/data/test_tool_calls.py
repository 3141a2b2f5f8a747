"""Calls in every spelling become the same list, in order, and survive being written."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.data import tool_calls
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.tool_calls import Call

TEAL = Call("glaze_stock", {"colour": "teal"})
OCHRE = Call("glaze_stock", {"colour": "ochre", "litres": 3})


def as_json(call: Call, **more: Any) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments} | more)


def tagged(*bodies: str) -> str:
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


XML = (
    "<function=glaze_stock>\n<parameter=colour>\nochre\n</parameter>\n<parameter=litres>\n3\n</parameter>\n</function>"
)


@pytest.mark.parametrize(
    "content",
    [
        f"[{as_json(TEAL)}, {as_json(OCHRE)}]",
        tagged(as_json(TEAL), as_json(OCHRE)),
        f"<tool_call>{as_json(TEAL)}</tool_call><tool_call>{as_json(OCHRE)}</tool_call>\n",
        tagged(f"[{as_json(TEAL)}, {as_json(OCHRE)}]"),
        tagged(as_json(TEAL, arguments='{"colour": "teal"}'), XML),
        "{'name': 'glaze_stock', 'arguments': {'colour': 'teal'}}".join(["<tool_call>", "</tool_call>"])
        + f"<tool_call>{as_json(OCHRE)}</tool_call>",
        json.dumps([{"type": "function", "id": "1", "function": json.loads(as_json(one))} for one in (TEAL, OCHRE)]),
    ],
)
def test_every_spelling_is_the_same_list_in_order(content: str) -> None:
    assert tool_calls.from_text(content) == ("", (TEAL, OCHRE))


def test_what_is_said_before_the_calls_is_kept() -> None:
    assert tool_calls.from_text(f"Let me see.\n{tagged(as_json(TEAL))}") == ("Let me see.", (TEAL,))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("call it", "a function call must be JSON, such as"),
        ("[]", "it holds no function call; expected JSON such as"),
        ("3", "function call 1 is a number; expected an object such as"),
        ('{"arguments": {}}', "function call 1 needs a name"),
        ('{"name": "a", "arguments": ["x"]}', "function call 1: the arguments are a list; expected an object"),
        ('{"name": "a", "arguments": "[1]"}', "function call 1: the arguments are a list; expected an object"),
        ('{"name": "a", "arguments": "x"}', "function call 1: the arguments are not valid JSON"),
        (
            '{"name": "a", "argument": {"b": 1}}',
            "function call 1 has 'argument'; its arguments stand",
        ),
        ('{"name": "a", "args": {}, "input": {}}', "function call 1 has 'args', 'input'; its arguments stand under"),
        (f"{tagged(as_json(TEAL))} and {tagged(as_json(OCHRE))}", "there is text between its <tool_call> tags"),
        (f"{tagged(as_json(TEAL))} Done.", "there is text after its last <tool_call>"),
        (f"{tagged(as_json(TEAL))}<tool_call>", "a <tool_call> tag has no counterpart"),
        (f"</tool_call>{tagged(as_json(TEAL))}", "a <tool_call> tag has no counterpart"),
        (tagged("<function=a>x</function>"), "a <function=...> holds more than <parameter=...> tags"),
    ],
)
def test_what_is_no_call_says_what_to_mend(content: str, expected: str) -> None:
    with pytest.raises(RowProblem) as caught:
        tool_calls.from_text(content)
    assert expected in str(caught.value)


def test_an_answer_may_talk_about_tags() -> None:
    assert tool_calls.in_answer("Write <tool_call> first.") is None
    assert tool_calls.in_answer("Sunny.") is None
    assert tool_calls.in_answer(tagged(as_json(TEAL))) == ("", (TEAL,))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sunny", "sunny"),
        ("<tool_response>\nsunny\n</tool_response>", "sunny"),
        (
            "<tool_response>a</tool_response> <tool_response>b</tool_response>",
            "a\n</tool_response>\n<tool_response>\nb",
        ),
        ("see <tool_response>a</tool_response>", "see <tool_response>a</tool_response>"),
        ("<tool_response>a</tool_response> b", "<tool_response>a</tool_response> b"),
    ],
)
def test_results_are_taken_out_of_their_tags(content: str, expected: str) -> None:
    assert tool_calls.result(content) == expected


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["<tool_call>", "</tool_call>", "</think>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(Call, st.text(min_size=1), st.dictionaries(st.text(), values, max_size=3))


@given(st.text(), st.lists(calls, min_size=1, max_size=3))
def test_calls_survive_being_written_whatever_they_hold(said: str, listed: list[Call]) -> None:
    assert tool_calls.read(tool_calls.written(said, listed)) == (said, tuple(listed))


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1.10", "1.10"), ("1e5", "1e5"), ('{\n  "a": 1\n}', '{\n  "a": 1\n}'), ("[1, 2]", [1, 2])],
)
def test_a_value_in_xml_is_never_written_otherwise(text: str, value: Any) -> None:
    body = f"<function=f>\n<parameter=p>\n{text}\n</parameter>\n</function>"
    assert tool_calls.from_text(tagged(body)) == ("", (Call("f", {"p": value}),))


def test_calls_nested_without_end_are_refused_before_they_are_parsed() -> None:
    for deep in ("[" * 50_000, "{'a':" * 20_000, "(" * 50_000):
        with pytest.raises(RowProblem, match="a function call must be JSON"):
            tool_calls.from_text("['" + deep)
    ast.parse("[[[[1]]]]")  # the parser still works


def test_xml_values_are_read_as_the_chat_template_writes_them() -> None:
    values = {"fired": "True", "cracked": "true", "owner": "None", "batch": "007", "note": "NaN"}
    body = "".join(f"\n<parameter={name}>\n{value}\n</parameter>" for name, value in values.items())
    _, (call,) = tool_calls.from_text(f"<tool_call>\n<function=kiln>{body}\n</function>\n</tool_call>")
    assert call.arguments == {"fired": True, "cracked": True, "owner": None, "batch": "007", "note": "NaN"}


@pytest.mark.parametrize("arguments", ['{"degrees": NaN}', '{"degrees": -Infinity}'])
def test_what_is_no_number_in_json_is_refused(arguments: str) -> None:
    with pytest.raises(RowProblem, match=r"(NaN|-Infinity) is no number in JSON; write null, or a text"):
        tool_calls.from_objects([{"name": "kiln", "arguments": arguments}])
    with pytest.raises(RowProblem, match="is no number in JSON"):
        tool_calls.from_text(tagged(f'{{"name": "kiln", "arguments": {arguments}}}'))


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(RowProblem, match="a key stands twice"):
        tool_calls.from_text('{"name": "kiln", "arguments": {"cone": 6, "cone": 9}}')


@pytest.mark.parametrize("arguments", [{}, "{}", ""])
def test_arguments_beside_empty_ones_are_refused(arguments: object) -> None:
    with pytest.raises(RowProblem, match="has 'colour'; its arguments stand under 'arguments' alone"):
        tool_calls.from_objects([{"name": "glaze_stock", "arguments": arguments, "colour": "white"}])
