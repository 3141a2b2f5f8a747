"""However many rows are bad, the message is short and loses none of them."""

from __future__ import annotations

import pytest

from qwensft_trainer.data.problems import COUNTED_KINDS, Problems

WORDS = ["lime", "ochre", "teal", "white", "umber", "sienna", "azure"]


def added(*rows: tuple[str, str]) -> str:
    problems = Problems()
    for number, (file, problem) in enumerate(rows, start=1):
        problems.add(file, f"row {number}", problem)
    return problems.error().message


def test_one_row_is_told_as_it_is() -> None:
    assert added(("file a.json", "no text")) == "1 row is invalid: file a.json, row 1: no text"


def test_what_varies_does_not_make_a_kind() -> None:
    rows = [
        ("file a.json", f"message {number}: 'x{number}' is at column {number} (char {number})") for number in range(9)
    ]
    assert added(*rows) == (
        "9 rows are invalid: file a.json, row 1; row 2; row 3; and 6 more: message 0: 'x0' is at column 0 (char 0)"
    )


def test_kinds_stand_in_order_and_those_beyond_the_fifth_are_counted() -> None:
    message = added(*[("file a.json", f"is {word}") for word in WORDS for _ in range(2)])
    assert message.startswith("14 rows are invalid: file a.json, row 1; row 2: is lime; ")
    assert message.endswith("row 9; row 10: is umber; and 4 rows with other problems")


def test_kinds_without_end_are_neither_kept_nor_logged(capsys: pytest.CaptureFixture[str]) -> None:
    message = added(*[("file a.json", "is " + "x" * number) for number in range(300)])
    assert message.endswith("; and 295 rows with other problems")
    assert len(capsys.readouterr().out.splitlines()) == COUNTED_KINDS
