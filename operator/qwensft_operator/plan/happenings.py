"""What has happened to a run between two of its statuses, for counters.

A status is written once, by whoever holds the version that it was decided from: what is counted with a write that was
accepted is counted once, whatever operator comes after.
ADR 0156 says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import Phase, Stage
from qwensft_operator.plan.standing import Document, known
from qwensft_operator.plan.times import parse_time

_ENDS = (Phase.SUCCEEDED.value, Phase.FAILED.value)


@dataclass(frozen=True, slots=True)
class Happenings:
    """What is new. Seconds of stages are from the start of their first attempt; the others are accelerator-seconds."""

    restarts: tuple[tuple[Stage, str], ...] = ()  # stage, and the reason for which it is tried again
    stages: tuple[tuple[Stage, float], ...] = ()  # those that are done, and how long they took
    end: str | None = None  # Succeeded or Failed, if that is what the run has come to
    held: int = 0
    before_first_step: int = 0
    lost_to_restarts: int = 0


def happenings(before: Document, after: Document) -> Happenings:
    """Return what has happened from one status to the next one, both as documents."""
    stages = [(stage, _record(before, stage), _record(after, stage)) for stage in Stage]
    used = before.get("usage") or {}, after.get("usage") or {}
    return Happenings(
        restarts=tuple((stage, _reason(new)) for stage, old, new in stages if _is_restarted(old, new)),
        stages=tuple((stage, _seconds(new)) for stage, old, new in stages if _is_done(old, new)),
        end=_end(before, after),
        held=_grown(*used, "acceleratorSeconds"),
        before_first_step=_grown(*used, "beforeFirstStepSeconds"),
        lost_to_restarts=_grown(*used, "lostToRestartsSeconds"),
    )


def _record(status: Document, stage: Stage) -> Mapping[str, Any]:
    return (status.get("stages") or {}).get(stage.value) or {}


def _is_restarted(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether another attempt follows one that has failed; one that a person or a queue has stopped has not."""
    attempt = new.get("attempt") or 1
    return attempt > (old.get("attempt") or 1) and new.get("failedAttempt") == attempt - 1


def _reason(record: Mapping[str, Any]) -> str:
    return known(record.get("reason") or "")


def _is_done(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return new.get("completionTime") is not None and new.get("completionTime") != old.get("completionTime")


def _seconds(record: Mapping[str, Any]) -> float:
    start, end = parse_time(record.get("startTime")), parse_time(record["completionTime"])
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0


def _end(before: Document, after: Document) -> str | None:
    has_ended = after.get("completionTime") is not None and before.get("completionTime") is None
    return after["phase"] if has_ended and after.get("phase") in _ENDS else None


def _grown(before: Document, after: Document, name: str) -> int:
    """Return by how much a total has grown; one that was corrected downwards has not."""
    return max(0, (after.get(name) or 0) - (before.get(name) or 0))
