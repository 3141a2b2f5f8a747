"""What a program has put into a row in the place of nothing, or of a lost character, is told."""

from __future__ import annotations

import pytest

from qwensft_trainer.data import odd_texts


@pytest.mark.parametrize("text", ["nan", " NaN ", "None", "null", "<noinput>", "#N/A"])
def test_what_stands_for_nothing(text: str) -> None:
    assert list(odd_texts.remarks(["Hello", text])) == [odd_texts.MISSING.format(text.strip())]


def test_lost_characters() -> None:
    assert list(odd_texts.remarks(["Sur l'\ufffdtag\ufffdre"])) == [odd_texts.LOST]


@pytest.mark.parametrize("text", ["", "None of them.", "nano", "0", "N", "né"])
def test_other_texts(text: str) -> None:
    assert list(odd_texts.remarks([text])) == []
