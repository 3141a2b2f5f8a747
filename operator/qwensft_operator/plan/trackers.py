"""`status.trackers`: where a training has been reported to, as its pod of node rank 0 tells.

It is told with what is written anyway, as the usage is: each new figure of a tracker would be one write more.
ADR 0163 says why the pod tells it, and not the spec.
"""

from __future__ import annotations

import re

from qwensft.api.v1alpha1 import Stage, TrackerStatus
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Told

_MOST = 8
_NAME = re.compile(r"[a-z]{1,32}")
_PLACE = re.compile(r"(https?://|/)[!-~]{1,1000}")  # others may answer at a pod's address
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def trackers_of(run: Run) -> tuple[TrackerStatus, ...] | None:
    """Return the next `status.trackers`. `run` is as it was observed, before anything was harvested."""
    known = {tracker.name: tracker for tracker in run.status.trackers or ()}
    for told in _told(run):
        if _NAME.fullmatch(told.tracker):
            known[told.tracker] = _merged(known.get(told.tracker), told)
    return tuple(known.values())[:_MOST] or None


def _told(run: Run) -> tuple[Told, ...]:
    if run.current_stage is not Stage.TRAIN:
        return ()
    scrape = run.observed.scrape
    if scrape is not None and scrape.trackers:
        return scrape.trackers
    return next((pod.report.trackers for pod in run.observed.pods if pod.report and pod.report.trackers), ())


def _merged(known: TrackerStatus | None, told: Told) -> TrackerStatus:
    before = known or TrackerStatus(name=told.tracker)
    return before.replace(
        url=told.url if _PLACE.fullmatch(told.url) else before.url,
        run_id=told.run_id if _ID.fullmatch(told.run_id) else before.run_id,
        undelivered=told.undelivered or None,
    )
