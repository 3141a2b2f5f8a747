"""Numbers, times and sizes as a person reads them. Pure."""

from __future__ import annotations

import math

from qwensft_trainer.contract.space import size

__all__ = ["count", "duration", "number", "share", "size"]


def number(value: float) -> str:
    """A loss or a rate, with three digits that count: 17.5, 0.512, 2.00e-05, NaN."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0 or 0.001 <= abs(value) < 1_000_000:
        text = f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
        return text.replace("-", "−")
    return f"{value:.2e}".replace("-", "−")


def count(value: int, one: str, many: str = "") -> str:
    """1 row, 1,204 rows."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def share(value: float) -> str:
    """A part of 1 in percent: 12.5 %."""
    return f"{100 * value:.3g} %"


def duration(seconds: float) -> str:
    """0.4 s, 42 s, 3 min 07 s, 2 h 15 min, 4 d 03 h."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"
