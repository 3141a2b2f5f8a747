"""Scales of a chart: from values to places between its edges, with round numbers to read them by. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qwensft_trainer.reporting.words import number

_WORTH_A_LOGARITHM = 100  # highest over lowest, from where on a linear scale shows nothing of the low ones
_MOST_TICKS = 7
_FLAT = 1e-12  # a span, in parts of the values, that is none


@dataclass(frozen=True)
class Scale:
    """`low` and `high` are the values at the edges; `ticks` are values to write beside, in their order."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands between low (0) and high (1)."""
        low, high, at = (math.log10(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return (at - low) / (high - low)

    def text(self, tick: float) -> str:
        """A tick in words, with as many decimals as tell it from its neighbours."""
        spacing = 0.0 if self.logarithmic or len(self.ticks) < 2 else self.ticks[1] - self.ticks[0]
        if not 1e-6 <= spacing < 1e9:
            return number(tick)
        return f"{tick:,.{max(0, -math.floor(math.log10(spacing * 1.001)))}f}".replace("-", "−")


def of_steps(steps: Iterable[int]) -> Scale:
    """From the first to the last step, with whole ticks."""
    known = sorted(steps)
    low, high = known[0], known[-1]
    if low == high:
        return Scale(low - 1, high + 1, (low,))
    spacing = max(1, round(_spacing(high - low)))
    return Scale(low, high, tuple(range(-(-low // spacing) * spacing, high + 1, spacing)))


def of_values(values: Iterable[float]) -> Scale:
    """Around finite values: to the next round numbers, or powers of ten where the highest are far above the lowest."""
    known = sorted(values)
    low, high = known[0], known[-1]
    if low > 0 and high / low >= _WORTH_A_LOGARITHM:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        powers = range(first, last + 1, -(-(last - first + 1) // _MOST_TICKS))
        return Scale(10.0**first, 10.0**last, tuple(10.0**power for power in powers), logarithmic=True)
    if high - low <= _FLAT * max(1.0, abs(low), abs(high)):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    spacing = _spacing(high - low)
    first, last = math.floor(low / spacing), math.ceil(high / spacing)
    return Scale(first * spacing, last * spacing, tuple(number * spacing for number in range(first, last + 1)))


def _spacing(span: float) -> float:
    """A round number of which about five fit into a span."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= span / 5), power * 10)
