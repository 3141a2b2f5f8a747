"""Answers before and after the training stand beside each other; what there are not says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qwensft_trainer.reporting.answers import answers, warnings

from .conftest import Page, records, run, samples
from .test_page import page

ASKED = {"samples": {"count": 2}}


def texts(**changes: Any) -> list[list[str]]:
    """Of each row, name and remark of each text."""
    found = answers(replace(records(), samples=samples(**changes)))
    assert found is not None
    return [[f"{text.name} ({text.beside})" if text.beside else text.name for text in row.texts] for row in found.rows]


def test_a_row_has_its_prompt_its_answer_and_those_of_both_models() -> None:
    assert texts() == [
        ["Prompt", "Answer in the row", "Before the training (not complete)", "After the training"],
        ["Prompt", "Answer in the row", "Before the training (nothing)", "After the training (not answered)"],
    ]


def test_the_page_says_which_rows_were_asked_and_how_and_whose_texts_these_are() -> None:
    text = Page(page(run(**ASKED), replace(records(), samples=samples()))).text
    assert "2 of the 60 rows to evaluate on." in text
    assert "Row 31" in text
    assert text.count("How long is the warranty?") == 6
    assert "Answering before and after, with the model loaded anew\n42 s" in text
    assert "who may not read these may not read it" in text
    assert "this page has none" not in text
    seen = Page(page(records_=replace(records(), samples=samples(source="training")))).text
    assert "2 of the 60 rows that were trained on, as none were held out: these the model has seen." in seen


def test_without_samples_there_is_no_word_of_them() -> None:
    text = Page(page()).text
    assert "Before and after" not in text
    assert "this page has none" in text
    assert warnings(run(), records()) == []


def test_a_long_text_is_folded_a_prompt_behind_its_end() -> None:
    lines = "\n".join(f"line {number}" for number in range(100))
    found = answers(replace(records(), samples=samples(lines)))
    assert found is not None
    prompt, wanted, *_ = found.rows[1].texts
    assert prompt.excerpt == "…line 96\nline 97\nline 98\nline 99"
    assert wanted.excerpt == "line 0\nline 1\nline 2\nline 3…"
    assert (prompt.text, wanted.text) == (lines, lines)


def test_of_a_very_long_text_both_ends_are_shown() -> None:
    found = answers(replace(records(), samples=samples(f"begin{'-' * 10_000}end")))
    assert found is not None
    text = found.rows[1].texts[0].text
    assert len(text) < 4100
    assert text.startswith("begin-")
    assert text.endswith("-end")
    assert "6,008 characters are left out" in text


def test_why_there_are_fewer_than_were_asked_for_is_a_warning() -> None:
    stopped = replace(records(), samples=samples(why="the pod was asked to stop", samples=[]))
    assert warnings(run(**ASKED), stopped) == ["evaluation.samples: the pod was asked to stop"]
    assert answers(stopped) is None
    assert "evaluation.samples: the pod was asked to stop" in Page(page(run(**ASKED), stopped)).text
    assert warnings(run(**ASKED), records()) == ["evaluation.samples asks for 2, and the training has left none"]
    assert warnings(run(**ASKED), replace(records(), samples=samples())) == []
