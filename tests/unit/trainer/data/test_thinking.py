"""Rows with thoughts are told of where the training makes something else of them than their owner may think."""

from __future__ import annotations

import pytest

from qwensft_trainer.data.thinking import AS_TEXT, EARLIER, LEFT_OUT, SKIPPED, Thinking

THINKS = "{{ '<think>' }}"
THOUGHT = "<think>\nBy the list.\n</think>\n\nFriday."


def answers(*texts: str) -> list[dict[str, str]]:
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
