"""Rows with thoughts are told of where the training makes something else of them than their owner may think."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.data.thinking import AS_TEXT, EARLIER, LEFT_OUT, SKIPPED, Thinking

THINKS = "{{ '<think>' }}"
THOUGHT = "<think>\nBy the list.\n</think>\n\nFriday."


def answers(*texts: str) -> list[dict[str, Any]]:
    return [
        message
        for text in texts
        for message in ({"role": "user", "content": "When?"}, {"role": "assistant", "content": text})
    ]


@pytest.mark.parametrize(
    ("thinking", "texts", "expected"),
    [
        (Thinking("qwen3"), ["Friday."], ()),
        (Thinking("qwen3"), [THOUGHT], ()),
        (Thinking("qwen3"), [THOUGHT, "Friday."], (EARLIER,)),
        (Thinking("qwen3"), ["Friday.", THOUGHT], ()),
        (Thinking("qwen3", on=False), ["Friday."], ()),
        (Thinking("qwen3", on=False), ["<think>\n\n</think>\n\nFriday."], ()),
        (Thinking("qwen3", on=False), [THOUGHT, "Friday."], (LEFT_OUT,)),
        (Thinking("qwen", "no thoughts"), [THOUGHT], (AS_TEXT.format("qwen"),)),
        (Thinking("qwen", THINKS), [THOUGHT], ()),  # QwQ
        (Thinking("qwen3", THINKS), ["Friday."], (SKIPPED,)),  # Thinking-2507
        (Thinking("qwen3", THINKS + "{{ enable_thinking }}"), ["Friday."], ()),
    ],
)
def test_what_is_told_of_a_row(thinking: Thinking, texts: list[str], expected: tuple[str, ...]) -> None:
    assert thinking.remarks(answers(*texts)) == expected


def test_thoughts_between_calls_after_the_last_question_stay_in_later_prompts() -> None:
    question, call, answer = answers(THOUGHT)[0], answers(THOUGHT)[1], answers(THOUGHT)[1]
    result = {"role": "observation", "content": "sunny"}
    assert Thinking("qwen3").remarks([question, call, result, answer]) == ()
    assert Thinking("qwen3").remarks([question, call, result, answer, question, answer]) == (EARLIER,)


def test_thoughts_of_an_answer_that_is_not_learnt_are_not_trained() -> None:
    question, answer = answers(THOUGHT)
    assert Thinking("qwen3").remarks([question, answer | {"learn": False}, question, answer]) == ()
