"""Training figures as a person reads them: from a scrape while training runs, from the final report afterwards.

Numbers stay numbers; the two strings (`steps`, `eta`) exist for the printer columns. Nothing non-finite gets in.
The status moves seldom: whoever wants live figures reads them where they are served. ADR 0096 says why.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import Progress
from qwensft_operator.plan.types import LARGEST_NUMBER, Scrape

_COUNTS = ("step", "total_steps", "best_step", "estimated_remaining_seconds")
_MEASURES = (
    *("epoch", "loss", "initial_loss", "eval_loss", "best_eval_loss"),
    *("learning_rate", "tokens_per_second"),
)
_PACE = ("tokens_per_second", "estimated_remaining_seconds", "eta")
_PERCENT = 100


def live(known: Progress | None, scrape: Scrape, now: datetime, *, interval: timedelta) -> Progress | None:
    """Update the progress from a scrape; the known one when the scrape tells nothing, or nothing to write for yet.

    With an interval the training must have moved by one percent, too.
    """
    if scrape.step is None or (interval and known is not None and not _is_due(known, scrape, now, interval)):
        return known
    # The pace is of this moment: an old one says nothing when the trainer does not tell a new one.
    return _stamped(known, _with(paused(known), asdict(scrape)), now)


def final(known: Progress | None, metrics: dict[str, float], now: datetime) -> Progress:
    """Return the figures of a completed training; those that the report lacks stay as last scraped."""
    reported = {name: value for key, value in metrics.items() if _is_usable(name := snake(key), value)}
    total = reported.get("total_steps") or (known.total_steps if known else None)
    ended = known and known.replace(estimated_remaining_seconds=None, eta=None)
    return _stamped(known, _with(ended, {"step": total, **reported, "total_steps": total}), now)


def stopped(known: Progress | None, step: int | None, now: datetime) -> Progress | None:
    """Take over how far an attempt has come that stops."""
    return known if step is None else _stamped(known, _with(known, {"step": step}), now)


def paused(known: Progress | None) -> Progress | None:
    """Take out what only a running training has: its pace, and the time to the end."""
    return known and known.replace(**dict.fromkeys(_PACE))


def summary(progress: Progress) -> str:
    """One phrase: steps, and how the loss went."""
    steps = f"{progress.step} steps" if progress.step is not None else "all steps"
    if progress.loss is None:
        return steps
    start = f"{progress.initial_loss:g} -> " if progress.initial_loss is not None else ""
    return f"{steps}, loss {start}{progress.loss:g}"


def duration(seconds: int) -> str:
    """Format seconds by their two largest units: 45s, 3m20s, 2h15m, 1d4h."""
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), 3)
    return "".join(f"{n}{unit}" for n, unit in parts[first : first + 2] if n) or "0s"


def _with(known: Progress | None, figures: dict[str, Any]) -> Progress:
    usable = {name: _tidy(name, value) for name, value in figures.items() if _is_usable(name, value)}
    new = (known or Progress()).replace(**usable)
    step, total, rest = new.step, new.total_steps, new.estimated_remaining_seconds
    derived: dict[str, Any] = {}
    if step is not None and total:
        # A completed run that is started again trains one step too many: never show 501/500.
        step = min(step, total)
        derived = {"step": step, "steps": f"{step}/{total}", "percentage": 100 * step // total}
    if rest is not None:
        derived["eta"] = duration(rest)
    return new.replace(**derived)


def _is_due(known: Progress, scrape: Scrape, now: datetime, interval: timedelta) -> bool:
    if known.step is None or known.last_update_time is None or scrape.step is None:
        return True
    moved = abs(scrape.step - known.step) * _PERCENT >= (scrape.total_steps or 0)
    # An update that is still to come was told before the clock was set back.
    return moved and not timedelta() <= now - known.last_update_time < interval


def _stamped(known: Progress | None, new: Progress, now: datetime) -> Progress:
    return new if new == known else new.replace(last_update_time=now)


def _is_usable(name: str, value: float | None) -> bool:
    """Whether a figure is one that is measured, and a number that the status can hold."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return name in _MEASURES or (name in _COUNTS and 0 <= value <= LARGEST_NUMBER)


def _tidy(name: str, value: float) -> float:
    """Round what is read, not what is computed with: four decimals are enough for a loss."""
    if name in _COUNTS:
        return int(value)
    return round(value, 4) if name in ("loss", "initial_loss", "eval_loss", "best_eval_loss", "epoch") else value


def snake(camel: str) -> str:
    """Return a name of the API, or of a report, as it is called in Python."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in camel)
