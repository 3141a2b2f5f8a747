"""Durations, sizes, shares and bars in a few characters. Pure; the command line's views are made of them, too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """Return 42s, 3m07s, 2h15m or 4d03h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def between(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two moments, "" where one is not known."""
    return "" if start is None or end is None else duration((end - start).total_seconds())


def size(count: float) -> str:
    """Return bytes as 15.3 GiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def hours(seconds: float) -> str:
    """Return seconds as hours with two decimals, of which something is seen."""
    return f"{seconds / 3600:.2f}" if seconds >= 18 else "less than 0.01"


def number(value: float) -> str:
    """Return a loss or a rate with about three digits that count."""
    return f"{value:.2e}" if value and (abs(value) < 0.01 or abs(value) >= 10_000) else f"{value:.2f}"


def count(value: int, one: str, many: str = "") -> str:
    """Return 1 row, 1,204 rows."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def bar(percentage: int, width: int) -> str:
    """Return a bar of that many characters."""
    filled = round(width * min(100, max(0, percentage)) / 100)
    return "█" * filled + "░" * (width - filled)


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as one line of blocks, at most so many: each is the mean of its share."""
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(part) / len(part) for low, high in pairwise(edges) if (part := values[low:high])]
    lowest, highest = min(means), max(means)
    span = highest - lowest or 1.0
    return "".join(_BLOCKS[round((mean - lowest) / span * (len(_BLOCKS) - 1))] for mean in means)


def shorten(text: str, width: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def plain(text: str) -> str:
    """Return a text from elsewhere on one line, without what a terminal would act upon."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))
