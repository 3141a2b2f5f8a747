"""Whatever others write, a terminal that shows it stays as it was."""

import pytest

from qwensft_operator.plan.text import LONGEST_TEXT, clean, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u4e2d\u6587 \u200d and\ttabs\nlines", "plain, \u4e2d\u6587 \u200d and\ttabs\nlines"),
        ("\x1b[2J\x07gone", "\\x1b[2J\\x07gone"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("half \ud83d", "half ?"),
        (None, "None"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: object, shown: str) -> None:
    assert clean(text) == shown


def test_texts_are_bounded_also_once_they_are_escaped() -> None:
    assert len(clean("\x1b" * 10**6)) == LONGEST_TEXT
    assert len(one_line("a\n" * 10**6, 10)) <= 10


def test_one_line_is_one_line() -> None:
    assert one_line("a\n\n b\r\n\x0bc ") == "a b c"
