"""Whatever workers print is handed on in bounded memory, and the end of it is kept."""

from __future__ import annotations

import io

import pytest

from qwensft_trainer.base import redaction
from qwensft_trainer.training.output import MAX_CHARACTERS, Output, lines


def test_lines_come_as_they_were_printed() -> None:
    assert list(lines(io.StringIO("one\n\ntwo\nthe last has no end"))) == ["one", "", "two", "the last has no end"]


def test_a_line_without_an_end_is_cut_and_the_next_one_is_whole() -> None:
    first, second = lines(io.StringIO("x" * 3_000_000 + "\nnext\n"))
    assert first == "x" * MAX_CHARACTERS + f"... (cut: the line has more than {MAX_CHARACTERS} characters)"
    assert second == "next"


def test_no_more_than_a_piece_of_a_line_is_read_at_once() -> None:
    stream = io.StringIO("x" * 1_000_000)
    begun = lines(stream)
    assert len(next(begun)) < 2 * MAX_CHARACTERS
    assert stream.tell() <= 2 * MAX_CHARACTERS
    assert list(begun) == []


def test_a_secret_at_the_place_of_the_cut_is_not_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "secrets", redaction.Secrets())
    redaction.secrets.add("0123456789abcdef")
    told = next(lines(io.StringIO("x" * (MAX_CHARACTERS - 4) + "0123456789abcdef" + "y" * 100_000)))
    assert "0123" not in told


def test_the_last_lines_are_kept_and_none_of_them_is_long() -> None:
    output = Output()
    for number in range(1000):
        output.add(f"{number} " + "x" * 5000)
    assert (output.tail[0][:4], output.tail[-1][:4]) == ("600 ", "999 ")
    assert max(map(len, output.tail)) <= 2000
    assert output.last_words == []
