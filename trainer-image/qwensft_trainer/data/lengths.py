"""Lengths of samples in tokens: how many, how long before and after cutoff_len, and which percentiles they have.

Exact, with memory bounded by the number of different lengths. Encoding is tokenization.py's part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PERCENTILES = (50, 90, 99)
_BARS = 40
_SHOWN_ROWS = 5


@dataclass
class Lengths:
    """What one split holds. `full` counts tokens as LLaMA-Factory would encode a row without cutoff_len."""

    full: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    truncated: int = 0
    cut_media: int = 0
    cut_media_rows: list[str] = field(default_factory=list)

    def add(self, measures: Iterable[Mapping[str, Any]]) -> None:
        """Add encoded rows: {"dataset", "place", "full", "kept", "media_cut"}, lengths in tokens."""
        for measure in measures:
            self.full[measure["full"]] += 1
            self.tokens += measure["kept"]
            self.truncated += measure["kept"] < measure["full"]
            if measure["media_cut"]:
                self.cut_media += 1
                if len(self.cut_media_rows) < _SHOWN_ROWS:
                    self.cut_media_rows.append(
                        f"dataset {measure['dataset']}, {measure['place']} ({measure['full']} tokens)"
                    )

    def join(self, other: Lengths) -> None:
        """Add what another process has counted."""
        self.full.update(other.full)
        self.tokens += other.tokens
        self.truncated += other.truncated
        self.cut_media += other.cut_media
        self.cut_media_rows = (self.cut_media_rows + other.cut_media_rows)[:_SHOWN_ROWS]

    @property
    def samples(self) -> int:
        """Rows, also when packing puts several of them into one sequence."""
        return self.full.total()

    @property
    def longest(self) -> int:
        """Tokens of the longest row before cutoff_len, 0 without rows."""
        return max(self.full, default=0)

    def percentile(self, percent: int) -> int:
        """The shortest length that at least `percent` of 100 rows do not exceed (nearest rank), 0 without rows."""
        rank = -(-self.samples * percent // 100)
        for length in sorted(self.full):
            rank -= self.full[length]
            if rank <= 0:
                return length
        return 0

    def histogram(self) -> dict[str, Any]:
        """Rows by length, as prepare.json has it: "counts" for each "width" tokens from 0 on, and the "longer" ones.

        A few rows that are much longer than the others do not squeeze these together.
        """
        bars = min(_BARS, self.longest + 1)
        width = -(-(self.longest + 1) // bars)
        if self.longest > 2 * (usual := self.percentile(PERCENTILES[-1])):
            bars = min(_BARS, usual + 1)
            width = -(-(usual + 1) // bars)
        counts = [0] * bars
        longer = 0
        for length, rows in self.full.items():
            if length // width < bars:
                counts[length // width] += rows
            else:
                longer += rows
        return {"width": width, "counts": counts, "longer": longer}

    def metrics(self) -> dict[str, int]:
        """As the termination message and prepare.json call them."""
        percentiles = {f"lengthP{percent}": self.percentile(percent) for percent in PERCENTILES}
        return {
            "samples": self.samples,
            "tokens": self.tokens,
            "truncatedSamples": self.truncated,
            **percentiles,
            "lengthMax": self.longest,
        }
