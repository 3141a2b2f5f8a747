"""The answers before and after the training as the page says them: names and texts, without markup. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from qwensft_trainer.contract.config import Run
from qwensft_trainer.reporting.records import Records
from qwensft_trainer.reporting.words import count
from qwensft_trainer.training.samples import Answer, Sample

_SHOWN_CHARACTERS = 4000  # of one text; of a longer one its two ends
_UNFOLDED_CHARACTERS, _UNFOLDED_LINES = 600, 12  # of a text that is shown at once
_EXCERPT_CHARACTERS, _EXCERPT_LINES = 240, 4  # of one that is folded


class Text(NamedTuple):
    """A text with its name, and what there is to say of it. `excerpt` stands before one that is folded, else ""."""

    name: str
    text: str
    excerpt: str = ""
    beside: str = ""


class Row(NamedTuple):
    """A row that was asked, by its number, and its texts."""

    number: str
    texts: list[Text]


class Answers(NamedTuple):
    """Which rows these are and how they were answered, and the rows."""

    about: str
    rows: list[Row]


def answers(records: Records) -> Answers | None:
    """What spec.evaluation.samples asked for; None where there is nothing of it."""
    found = records.samples
    if found is None or not found.samples:
        return None
    source = (
        "to evaluate on"
        if found.source == "evaluation"
        else "that were trained on, as none were held out: these the model has seen"
    )
    about = (
        f"{len(found.samples)} of the {count(found.rows, 'row')} {source}. The prompt is that of the row as it was "
        f"trained, up to the first token that is learnt. Answers are greedy, of {found.new_tokens} tokens at most."
    )
    return Answers(about, [Row(f"{one.row:,}", list(_texts(one))) for one in found.samples])


def warnings(run: Run, records: Records) -> list[str]:
    """Why there are fewer answers than were asked for."""
    asked, found = run.samples.count, records.samples
    if not asked:
        return []
    if found is None:
        return [f"evaluation.samples asks for {asked}, and the training has left none"]
    return [f"evaluation.samples: {found.why}"] if found.why else []


def _texts(sample: Sample) -> Iterator[Text]:
    yield _text("Prompt", sample.prompt, from_the_end=True)
    yield _text("Answer in the row", sample.wanted)
    for name, answer in (("Before the training", sample.before), ("After the training", sample.after)):
        yield _of_model(name, answer)


def _of_model(name: str, answer: Answer | None) -> Text:
    if answer is None:
        return Text(name, "", beside="not answered")
    said = [] if answer.text else ["nothing"]
    return _text(name, answer.text)._replace(beside=", ".join(said + ([] if answer.complete else ["not complete"])))


def _text(name: str, text: str, *, from_the_end: bool = False) -> Text:
    """A long text is folded behind its beginning, or its end: there a prompt asks what it asks."""
    if len(text) <= _UNFOLDED_CHARACTERS and text.count("\n") < _UNFOLDED_LINES:
        return Text(name, text)
    lines = text.split("\n")
    if from_the_end:
        excerpt = "…" + "\n".join(lines[-_EXCERPT_LINES:])[-_EXCERPT_CHARACTERS:]
    else:
        excerpt = "\n".join(lines[:_EXCERPT_LINES])[:_EXCERPT_CHARACTERS] + "…"
    return Text(name, _shortened(text), excerpt)


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters are left out …\n{text[-half:]}"
