"""How far a merge is: bytes from a scrape while it runs, from the final report afterwards, and the words for them.

The status moves seldom. ADR 0096 says why.
"""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import StageStatus
from qwensft_operator.plan.types import LARGEST_NUMBER, Scrape

UNWRITTEN: dict[str, Any] = dict.fromkeys(("bytes_done", "bytes_total"))
"""What stands in the stage's record before an attempt has told anything."""

_SHARE = 20  # the status moves when another twentieth is written

_UNITS = (("GB", 10**9), ("MB", 10**6))


def live(record: StageStatus, scrape: Scrape | None) -> StageStatus:
    """Return the record of a running merge, with what it does; the words of an earlier failure stay there."""
    if scrape is not None and _has_moved(record, scrape):
        record = _counted(record, scrape.bytes_done, scrape.bytes_total)
    return record if record.reason is not None else record.replace(message=doing(record) or record.message)


def final(record: StageStatus, metrics: dict[str, float]) -> StageStatus:
    """Return the record of a completed merge: it has written everything, also if its report is gone."""
    total = metrics.get("bytesTotal", record.bytes_total)
    return _counted(record, metrics.get("bytesDone", total), total)


def doing(record: StageStatus) -> str:
    """One phrase, "" as long as nothing is known."""
    done, total = record.bytes_done, record.bytes_total
    if done is None or total is None:
        return ""
    if done == total:
        return "verifying"
    unit, size = next(((unit, size) for unit, size in _UNITS if total >= size), ("kB", 10**3))
    return f"writing {_short(done / size)} of {_short(total / size)} {unit}"


def _has_moved(record: StageStatus, scrape: Scrape) -> bool:
    done, total = scrape.bytes_done, scrape.bytes_total
    if done is None or total is None or record.bytes_done is None or record.bytes_total != total:
        return True
    return done == total or abs(done - record.bytes_done) * _SHARE >= total


def _short(amount: float) -> str:
    return f"{amount:.1f}" if amount < 100 else f"{amount:.0f}"


def _counted(record: StageStatus, done: float | None, total: float | None) -> StageStatus:
    """Take over numbers that can be true."""
    if done is None or total is None or not 0 <= done <= total <= LARGEST_NUMBER:
        return record
    return record.replace(bytes_done=int(done), bytes_total=int(total))
