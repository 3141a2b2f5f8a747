"""The first rows of each dataset as the model sees them, with what it learns marked, for a person to look at.

Row texts stay on the volume: the log has the path and numbers only, unless spec.prepare.preview is Log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.media_marks import shortened

ROWS = 3
OPENED, CLOSED = "⟦", "⟧"

_IGNORED = -100  # LLaMA-Factory's IGNORE_INDEX


@dataclass(frozen=True)
class Sample:
    """One row: its text in parts, each learnt or not; lengths in tokens, `full` before training.cutoffLen."""

    dataset: str
    place: str
    parts: tuple[tuple[str, bool], ...]
    tokens: int
    learnt: int
    full: int

    def document(self) -> dict[str, Any]:
        """As preview.json has it."""
        return {
            "dataset": self.dataset,
            "place": self.place,
            "tokens": self.tokens,
            "learntTokens": self.learnt,
            "tokensBeforeCut": self.full,
            "parts": [{"text": text, "learnt": learnt} for text, learnt in self.parts],
        }

    def text(self) -> str:
        """As preview.txt has it: a head line, then the text."""
        cut = f", cut from {self.full}" if self.full > self.tokens else ""
        head = f"=== dataset {self.dataset}, {self.place}: {self.tokens} tokens{cut}, {self.learnt} learnt ==="
        return head + "\n" + "".join(f"{OPENED}{text}{CLOSED}" if learnt else text for text, learnt in self.parts)


def sample(
    decode: Callable[[list[int]], str],
    *,
    dataset: str,
    place: str,
    encoded: tuple[Sequence[int], Sequence[int]],
    full: int,
) -> Sample:
    """A row as it was encoded: token ids and labels of the same length, -100 where nothing is learnt."""
    ids, labels = encoded
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != _IGNORED)
    parts = tuple((shortened(decode([token for token, _ in run])), learnt) for learnt, run in runs)
    return Sample(dataset, place, parts, len(ids), sum(label != _IGNORED for label in labels), full)


def write(directory: Path, samples: Sequence[Sample]) -> Path:
    """Write preview.json and preview.txt to a directory; return the path of the latter."""
    files.write_json(directory / "preview.json", {"samples": [one.document() for one in samples]})
    path = directory / "preview.txt"
    files.write_text(path, clean(whole_text(samples)))  # people look at it in a terminal
    return path


def whole_text(samples: Iterable[Sample]) -> str:
    """All samples, after a line that explains the marks."""
    head = f"The first rows of each dataset as the model sees them; {OPENED}what is learnt{CLOSED} stands in brackets."
    return "\n\n".join([head, *(one.text() for one in samples)]) + "\n"
