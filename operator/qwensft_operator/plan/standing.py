"""Where a run stands, for those who count runs: phase and reason, since when it has not moved, what it holds.

Built on raw documents, as the store keeps them: all runs are looked at with every scrape, and a model for each would be
a hundred times dearer. What other versions have written is counted as `OTHER`, so that the values stay a closed set.
ADR 0156 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from qwensft.api.v1alpha1 import LABEL_STAGE, Accelerator, ConditionType, Phase, Reason, Stage
from qwensft_operator.plan.times import parse_time

UNSEEN = "Unseen"  # the phase of a run that has no status yet
OTHER = "Other"
PHASES = (UNSEEN, *(phase.value for phase in Phase))
_REASONS = frozenset(reason.value for reason in Reason)
_MOVES = frozenset({"", Reason.RUNNING, Reason.FIGURES_UNREACHABLE, Reason.NON_FINITE_LOSS})
_ENDED = frozenset({Phase.SUCCEEDED.value, Phase.FAILED.value})
_COUNT: int = Accelerator.model_fields["count"].default

Document = Mapping[str, Any]


class Standing(NamedTuple):
    """Phase and reason of a run; "" is no reason."""

    phase: str
    reason: str


def standing(run: Document) -> Standing:
    """Return where a run stands."""
    status = run.get("status") or {}
    phase = status.get("phase")
    conditions = status.get("conditions") or ()
    reason = next((c["reason"] for c in conditions if c["type"] == ConditionType.SUCCEEDED), "")
    if not phase:
        return _shared(UNSEEN, "")
    return _shared(phase if phase in PHASES else OTHER, known(reason) if reason else "")


@cache
def _shared(phase: str, reason: str) -> Standing:
    """The same object for the same words, of which there are few: each run that is over keeps one."""
    return Standing(phase, reason)


def known(reason: str) -> str:
    """Return a reason, or `OTHER` for one that this version does not give."""
    return reason if reason in _REASONS else OTHER


def waits(where: Standing) -> bool:
    """Whether a run that has not ended waits, for whatever: no pod of it works."""
    return where.phase not in _ENDED and (where.phase == UNSEEN or where.reason not in _MOVES)


def last_move(run: Document, jobs: Iterable[Document]) -> datetime | None:
    """Return when something happened to a run last, as far as it, or one of its Jobs, tells of it."""
    metadata, status = run["metadata"], run.get("status") or {}
    told = [metadata, status, status.get("progress"), *(status.get("stages") or {}).values()]
    told += status.get("conditions") or ()
    for job in jobs:
        told += [job["metadata"], job.get("status"), *((job.get("status") or {}).get("conditions") or ())]
    # Text of one form and one time zone: the greatest is the latest.
    texts = [text for part in told if part for name in _MOMENTS if (text := part.get(name)) is not None]
    try:
        return parse_time(max(texts, default=None))
    except ValueError:  # the API server takes more for a time than Python does
        return max(filter(None, map(_moment, texts)), default=None)


def _moment(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


_MOMENTS = ("creationTimestamp", "deletionTimestamp", "startTime", "suspendTime", "completionTime",
            "lastTransitionTime", "lastUpdateTime")  # fmt: skip


def accelerators_held(run: Document, pods: Iterable[Document]) -> int:
    """Return how many accelerators the pods of a run hold: those that have a node and have not ended."""
    spec = run.get("spec") or {}
    count = ((spec.get("worker") or {}).get("accelerator") or {}).get("count", _COUNT)
    of_stage = {Stage.TRAIN.value: count, Stage.MERGE.value: min(1, count) if _merges_on_one(spec) else 0}
    holding = (pod for pod in pods if _holds(pod))
    return sum(of_stage.get(pod["metadata"]["labels"].get(LABEL_STAGE, ""), 0) for pod in holding)


def _holds(pod: Document) -> bool:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return bool((pod.get("spec") or {}).get("nodeName")) and phase not in ("Succeeded", "Failed")


def _merges_on_one(spec: Document) -> bool:
    merge = spec.get("merge") or {}
    return merge.get("engine") == "llamafactory" and merge.get("device") == "auto"
