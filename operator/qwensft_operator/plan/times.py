"""Times as Kubernetes writes them, and how long ago they are.

ADR 0112 says why a time that is to come is not waited for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def timestamp(moment: datetime) -> str:
    """Format a time as it stands in the status: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """Return the time that an object of Kubernetes gives; None where it gives none."""
    return datetime.fromisoformat(text) if text else None


def has_lasted(since: datetime, patience: timedelta, now: datetime) -> bool:
    """Whether what began at `since`, by a clock of the cluster, has lasted for so long.

    A beginning that is still to come tells that the clocks differ, and not how long ago it was: the difference is not
    waited for on top.
    """
    return abs(now - since) >= patience
