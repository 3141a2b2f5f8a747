"""The page says what is known, holds nothing that runs or is fetched, and no text of anybody becomes a part of it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwensft_trainer.base.redaction import secrets
from qwensft_trainer.reporting import page as reporting_page
from qwensft_trainer.reporting.losses import Losses, Point
from qwensft_trainer.reporting.page import render
from qwensft_trainer.reporting.records import Records

from .conftest import RUN, Page, records, run, samples

STYLE = Path(reporting_page.__file__).parent / "templates" / "report.css"
HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;<!--]]>{{ 7 * 7 }}{% raw %}"


def page(run_: Any = None, records_: Records | None = None) -> str:
    return render(run_ or run(), records_ or records(), "qwensft-trainer")


CASES = {
    "everything": records(),
    "nothing": Records(),
    "no evaluation": replace(records(), losses=Losses(records().losses.training)),
    "one step": replace(records(), losses=Losses((Point(1, 2.0),))),
    "only NaN": replace(records(), losses=Losses((Point(1, math.nan), Point(2, math.inf)))),
    "no merge": replace(records(), merged={}),
    "samples": replace(records(), samples=samples()),
    "long samples": replace(records(), samples=samples("A line that is long enough to be one of many.\n" * 200)),
    "one attempt": replace(records(), attempts=records().attempts[:1]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_whole_for_a_strict_parser_and_for_a_browsers(case: str) -> None:
    text = page(records_=CASES[case])
    ElementTree.fromstring(text)  # noqa: S314 - of our own making
    parsed = Page(text)
    assert parsed.open == []
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    referred = {one for name, value in parsed.attributes if name == "aria-labelledby" for one in value.split()}
    assert referred <= set(ids)


def test_the_adapter_that_was_trained_on_is_named_with_its_digest() -> None:
    adapter = {"name": "first", "uid": "uid-0", "digest": "sha256:0f1e", "path": "/adapter/first-0/train/1"}
    text = page(run(model={"name": "Qwen/Qwen3-8B", "path": "/model", "adapter": adapter}))
    assert "the adapter of the run first (UID uid-0)" in text
    assert "sha256:0f1e" in text


@pytest.mark.parametrize("case", CASES)
def test_headings_stand_in_order_and_tables_say_what_their_cells_are(case: str) -> None:
    text = page(records_=CASES[case])
    parsed = Page(text)
    levels = [int(heading[1]) for heading in parsed.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    heads = [attributes for tag, attributes in parsed.elements if tag == "th"]
    assert all("scope" in attributes for attributes in heads)
    for drawing in re.findall(r'<svg[^>]*role="img".*?</svg>', text, re.DOTALL):
        assert re.search(r"<title[^>]*>[^<]+</title>", drawing)
        assert re.search(r"<desc[^>]*>[^<]+</desc>", drawing)


def test_what_was_trained_on_what_and_what_came_of_it_can_be_read() -> None:
    text = Page(page()).text
    for wanted in (
        "Qwen/Qwen3-8B, LoRA, trained until 2026-11-30 12:00 UTC",
        "from 2.31",
        "at step 150",
        "/datasets/tickets/sft/train.jsonl",
        "training, weight 0.7",
        "https://example.com/manual.json",
        "ModelScope: team/rows (split test)",
        "0123456789abcdef",
        "128 sequences: 2 × 4 accumulated × 16 processes",
        "8 × NVIDIA H200 in each of 2 pods",
        "2 h 00 min",
        "14,110",
        "42.8 %",
        "399, 252 of them changed by training",
        "32 of 32",
        "16.0 GiB",
        "sha256:b0",
        "dataset tickets: 3 of 1200 rows have a key note that nothing reads (train.jsonl row 7)",
        "learning_rate: 0.0001",
    ):
        assert wanted in text, wanted
    assert "X-Signature" not in text


def test_a_run_that_begins_with_the_model_of_another_says_whose_and_which() -> None:
    source = {"name": "first", "uid": "uid-0", "digest": "sha256:d0"}
    text = Page(page(run(model={"name": "Qwen/Qwen3-8B", "path": "/model", "mergedBy": source}))).text
    for wanted in (
        "Qwen/Qwen3-8B as the run first left it, LoRA, trained until",
        "the merged model of the run first (UID uid-0)",
        "sha256:d0",
    ):
        assert wanted in text, wanted


def test_a_page_before_the_merge_says_that_digests_come_with_it() -> None:
    trained = {**records().trained, "outputs": {"adapter": {"path": "support-1/train/2", "sizeBytes": 7}}}
    text = Page(page(records_=replace(records(), trained=trained, merged={}))).text
    assert "told once it is merged" in text
    assert "Merged by" not in text


def test_nothing_on_it_runs_or_is_fetched() -> None:
    text = page()
    parsed = Page(text)
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "img", "iframe", "object", "form", "a", "base"}
    assert not {name for name, _ in parsed.attributes if name in {"src", "href", "srcset"} or name.startswith("on")}
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|expression", style[1])
    assert any(value.startswith("default-src 'none'") for name, value in parsed.attributes if name == "content")


def _hostile(value: Any) -> Any:
    """The same with every text replaced, but for those that programs read."""
    if isinstance(value, dict):
        kept = {"begunAt", "completedAt", "lengths", "directory"}
        return {key: inner if key in kept else _hostile(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_hostile(inner) for inner in value)
    return HOSTILE if isinstance(value, str) else value


def test_no_text_becomes_markup_wherever_it_stands() -> None:
    """Names, paths, messages: the elements and attributes are those of a page with harmless texts."""
    known = records()
    spoiled = Records(
        prepared={**_hostile(known.prepared), "rows": {HOSTILE: 7}},
        trained={**_hostile(known.trained), "outputs": {HOSTILE: _hostile(known.trained["outputs"]["adapter"])}},
        merged=_hostile(known.merged),
        arguments={**dict(known.arguments), "lora_target": HOSTILE},
        attempts=[(HOSTILE, record) for _, record in known.attempts],
        losses=known.losses,
        commit=HOSTILE,
        samples=samples(HOSTILE),
    )
    sources = [{**RUN["datasets"][0], "name": HOSTILE, "path": HOSTILE}, RUN["datasets"][1]]
    model = {"name": HOSTILE, "path": "/m", "download": {"hub": "huggingFace", "repo": HOSTILE}}
    owner = {"uid": "uid-1", "namespace": HOSTILE, "name": HOSTILE}
    text = page(run(owner=owner, model=model, datasets=sources), spoiled)
    ElementTree.fromstring(text)  # noqa: S314
    assert Page(text).elements == Page(page(records_=replace(known, samples=samples()))).elements
    assert Page(text).text.count("<script>alert(1)</script>") >= 12


@given(st.text(max_size=200))
@settings(max_examples=50)
def test_any_text_is_shown_as_it_is_but_for_control_characters(name: str) -> None:
    known = replace(records(), prepared={"warnings": [f"before {name} after"]})
    text = page(records_=known)
    assert len(Page(text).elements) == len(Page(page(records_=replace(known, prepared={"warnings": ["x"]}))).elements)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_secrets_of_the_pod_are_hidden() -> None:
    secrets.add("hf_<token>&more")
    text = page(records_=replace(records(), prepared={"warnings": ["denied with hf_<token>&more"]}))
    assert "denied with [redacted]</li>" in text


def test_a_hundred_thousand_steps_and_many_long_texts_make_no_large_page() -> None:
    long = Losses(*(tuple(Point(step, 1.0 + step % 97) for step in range(100_000)) for _ in range(2)))
    many = {"warnings": ["w" * 5000] * 10_000, "rows": {}}
    datasets = [{"name": f"d{number}", "format": "alpaca", "path": "/p" * 2000} for number in range(2000)]
    attempts = [(str(number), {"nodes": 1}) for number in range(5000)]
    trained = {**records().trained, "arguments": "s" * 10_000_000}
    answered = samples("支" * 100_000)
    answered = samples(samples=[answered.samples[0].document()] * 32)
    known = replace(records(), losses=long, prepared=many, attempts=attempts, trained=trained, samples=answered)
    text = page(run(datasets=datasets), known)
    assert len(text.encode()) < 4 << 20
    assert "and 9800 more, in prepare.json" in text


def test_a_spike_and_a_loss_that_is_no_number_are_seen_among_a_hundred_thousand_steps() -> None:
    points = [Point(step, 1.0) for step in range(1, 100_001)]
    points[4999], points[59_999] = Point(5000, 1000.0), Point(60_000, math.nan)
    text = page(records_=replace(records(), losses=Losses(tuple(points))))
    assert '<path class="alarm" d="M600 0V1000"/>' in text
    assert "1 logged loss was not finite" in text
    rows = re.findall(r'<tr><th scope="row">([\d,]+)</th><td>([^<]*)</td><td></td></tr>', text)
    assert ("5,000", "1,000") in rows
    assert ("60,000", "NaN") in rows
    assert "on a logarithmic scale" in text


def test_the_same_records_give_the_same_bytes() -> None:
    assert page() == page()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_curves_stand_out_from_what_is_behind_them(scheme: str) -> None:
    """Contrasts of WCAG 2.2: 4.5 for texts, 3 for what is drawn."""
    light, dark = STYLE.read_text().split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark if scheme == "dark" else light))
    for behind in ("page", "card", "caution"):
        for text in ("ink", "soft"):
            assert _contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for drawn in ("training", "evaluation", "alarm"):
        assert _contrast(colours[drawn], colours["card"]) >= 3, drawn


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
