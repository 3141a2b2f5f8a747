"""A person sees which words of a row are learnt."""

from __future__ import annotations

import json
from pathlib import Path

from qwensft_trainer.data import preview
from qwensft_trainer.data.preview import Sample, sample

WORDS = ["<user>", "When?", "<answer>", "Friday.", "<end>", "<|image_pad|>"]


def encoded(*pairs: tuple[str, bool]) -> tuple[list[int], list[int]]:
    ids = [WORDS.index(word) for word, _ in pairs]
    return ids, [one if learnt else -100 for one, (_, learnt) in zip(ids, pairs, strict=True)]


def shown(*pairs: tuple[str, bool], full: int | None = None) -> Sample:
    return sample(
        lambda ids: "".join(WORDS[one] for one in ids),
        dataset="support",
        place="file a.json, row 1",
        encoded=encoded(*pairs),
        full=len(pairs) if full is None else full,
    )


def test_learnt_parts_are_marked() -> None:
    row = shown(("<user>", False), ("When?", False), ("<answer>", False), ("Friday.", True), ("<end>", True))
    assert row.text() == (
        "=== dataset support, file a.json, row 1: 5 tokens, 2 learnt ===\n<user>When?<answer>⟦Friday.<end>⟧"
    )


def test_a_cut_row_says_so_and_an_image_is_short() -> None:
    row = shown(("<user>", False), *[("<|image_pad|>", False)] * 300, full=400)
    assert row.text() == (
        "=== dataset support, file a.json, row 1: 301 tokens, cut from 400, 0 learnt ===\n<user><|image_pad|>×300"
    )


def test_both_files_hold_all_samples(tmp_path: Path) -> None:
    row = shown(("When?", False), ("Friday.", True))
    path = preview.write(tmp_path, [row, row])
    assert path.read_text().count("=== dataset support") == 2
    assert "⟦what is learnt⟧" in path.read_text().splitlines()[0]
    assert (
        json.loads((tmp_path / "preview.json").read_text())["samples"]
        == [
            {
                "dataset": "support",
                "place": "file a.json, row 1",
                "tokens": 2,
                "learntTokens": 1,
                "tokensBeforeCut": 2,
                "parts": [{"text": "When?", "learnt": False}, {"text": "Friday.", "learnt": True}],
            }
        ]
        * 2
    )


def test_a_preview_moves_no_terminal(tmp_path: Path) -> None:
    row = sample(lambda _: "\x1b[2JWhen?\n\tNow\u202e?", dataset="d", place="p", encoded=([1], [-100]), full=1)
    path = preview.write(tmp_path, [row])
    assert "\\x1b[2JWhen?\n\tNow\\u202e?" in path.read_text()
