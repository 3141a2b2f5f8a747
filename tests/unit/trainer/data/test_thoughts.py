"""Thoughts in every spelling become one form, none are lost, and what looks odd is remarked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.data import thoughts
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.thoughts import LATER, UNCLOSED, UNOPENED


@pytest.mark.parametrize(
    "content",
    [
        "<think>\nBy the list.\n</think>\n\nFriday.",
        "<think>By the list.</think>Friday.",
        "<think> By the list. </think> Friday.",
        "\n<think>\r\nBy the list.\r\n</think>\r\n\r\nFriday.",
        "<think>\n\nBy the list.\n\n</think>\n\n\n\nFriday.",
        "<THINK>By the list.</ think >\nFriday.",
    ],
)
def test_thoughts_are_read_however_they_are_spaced(content: str) -> None:
    assert thoughts.parted(content) == ("By the list.", "Friday.", ())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Friday.", (None, "Friday.", ())),
        ("<think>\n    for x in y:\n</think>\n\n    z", ("    for x in y:", "    z", ())),
        ("<think></think>Friday.", ("", "Friday.", ())),
        ("<think>\n\n</think>\n\n    indented\n", ("", "    indented\n", ())),
        ("By the list.\n</think>\n\nFriday.", ("By the list.", "Friday.", (UNOPENED,))),
        ("</think>\n\nFriday.", ("", "Friday.", (UNOPENED,))),
        ("<think>By the", (None, "<think>By the", (UNCLOSED,))),
        ("What `</think>` does", (None, "What `</think>` does", (LATER,))),
        ("Use <think> and </think>.", (None, "Use <think> and </think>.", (LATER,))),
        ("<think>a</think>b<think>c</think>d", ("a", "b<think>c</think>d", (LATER,))),
    ],
)
def test_what_is_empty_cut_off_or_later(content: str, expected: tuple[Any, ...]) -> None:
    assert thoughts.parted(content) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, None),
        ({"reasoning": None, "thinking": ""}, None),
        ({"reasoning": "\n    Hm.\n"}, "    Hm."),
        ({"reasoning": "Hm.", "reasoning_content": "Hm. "}, "Hm. "),
    ],
)
def test_keys_of_their_own(message: dict[str, Any], expected: str | None) -> None:
    assert thoughts.of_keys(message) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"thinking": {"effort": "low"}}, "'thinking' is an object; expected text"),
        ({"reasoning": "a", "thinking": "b"}, "'reasoning' and 'thinking' hold different thoughts"),
        ({"reasoning": "<think>a</think>"}, "'reasoning' holds <think> tags; leave them out"),
    ],
)
def test_keys_that_cannot_be_read(message: dict[str, Any], expected: str) -> None:
    with pytest.raises(RowProblem) as caught:
        thoughts.of_keys(message)
    assert expected in str(caught.value)


@given(st.none() | st.text().filter(lambda text: "</think>" not in text), st.text())
def test_thoughts_survive_being_written(thought: str | None, said: str) -> None:
    if thought is None and said.startswith("<think>\n"):
        return
    assert thoughts.apart(thoughts.together(thought, said)) == (thought, said)


@pytest.mark.parametrize(
    "tag", ["<thinking>", "<reasoning>", "<|begin_of_thought|>", "&lt;think&gt;", "[THINK]", "<analysis>", "<|think|>"]
)
def test_tags_of_other_models_are_text_with_a_remark(tag: str) -> None:
    said = f"\n{tag}Hm.</end>Friday."
    assert thoughts.parted(said) == (None, said, (thoughts.FOREIGN.format(tag.lower()),))


def test_only_the_assistant_thinks() -> None:
    with pytest.raises(RowProblem, match="a message from 'user' has 'reasoning_content', and only the assistant"):
        thoughts.refuse("user", {"role": "user", "reasoning_content": "Hm."})
    thoughts.refuse("user", {"role": "user", "reasoning_content": "", "reasoning": None})


@pytest.mark.parametrize("value", [None, True, 3, "", "off", "High", [], {}])
def test_what_says_how_much_to_think_is_no_thought(value: object) -> None:
    assert thoughts.is_setting(value)


@pytest.mark.parametrize("value", ["日志写着十一个小时", "By the list.", ["One.", "Two."], {"text": "Hm."}])
def test_what_is_a_thought_or_an_error(value: object) -> None:
    assert not thoughts.is_setting(value)
