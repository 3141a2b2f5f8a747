"""What every tracker does, and how one is served: in order, patiently, and in a thread of its own.

A tracker that is away costs nothing but memory of where it is: entries stay in the file until it has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qwensft_trainer.base.log import log
from qwensft_trainer.trackers.lines import Entry, Lines, Outcome
from qwensft_trainer.trackers.told import Told

_EVERY_SECONDS = 2.0  # between two sendings while all goes well
_LOOK_SECONDS = 0.5  # for the end of the attempt
_LONGEST_SECONDS = 60.0  # between two tries
_ENDING_SECONDS = 2.0  # between two tries once the attempt is over: not many are left


@dataclass(frozen=True)
class Subject:
    """Which run is reported. The UID names it at the trackers; `place` is its `directory` below the volume's root.

    `parameters` are LLaMA-Factory's arguments and what else tells runs apart. The training goes on from `step`.
    """

    namespace: str
    name: str
    uid: str
    attempt: int
    step: int
    directory: Path
    place: str
    run_name: str
    group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, str]:
        """What leads from a tracker's run to the QwenSFTJob."""
        return {"namespace": self.namespace, "name": self.name, "uid": self.uid, "attempt": str(self.attempt)}


class Tracker(Protocol):
    """Any method may raise what its library raises: then `open` is called again, and the same entries are sent."""

    name: str

    def open(self, step: int, *, ending: bool) -> tuple[str, str]:
        """Make the run, or go on with it after `step`; returns its URL and ID. `ending`: the attempt is over."""

    def send(self, entries: Sequence[Entry]) -> None:
        """Tell of entries, and return once the tracker has them, or this machine keeps them for it."""

    def close(self, outcome: Outcome) -> None:
        """Say how the attempt ended."""


def serve(
    tracker: Tracker,
    lines: Lines,
    tell: Callable[[Told], None],
    *,
    step: int,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Report until the end of the attempt. Whatever fails is tried again, with a line in the log now and then."""
    url, run_id, is_open, failures = "", "", False, 0
    while True:
        batch, ending = lines.next(), lines.ended()
        try:
            if not is_open:
                url, run_id = tracker.open(step, ending=ending)
                is_open = True
                log(f"{tracker.name}: reporting to {url}")
            if batch.entries:
                tracker.send(batch.entries)
                step = batch.entries[-1].step
            if batch.outcome is not None:
                tracker.close(batch.outcome)
            lines.take(batch)
            failures = 0
        except Exception as error:
            is_open = False
            failures += 1
            if failures & (failures - 1) == 0:  # 1, 2, 4, 8, ...
                log(f"{tracker.name}: cannot report ({type(error).__name__}: {error!s:.500}); trying again")
        tell(Told(tracker.name, url, run_id, lines.undelivered()))
        if batch.outcome is not None and not failures:
            return
        _pause(lines, failures, sleep)


def _pause(lines: Lines, failures: int, sleep: Callable[[float], None]) -> None:
    """Wait for more to tell, or for the next try; not long once the attempt is over."""
    left = min(_LONGEST_SECONDS, _EVERY_SECONDS * 2**failures) if failures else _EVERY_SECONDS
    while left > 0:
        if lines.ended():
            sleep(_ENDING_SECONDS if failures else 0)
            return
        sleep(_LOOK_SECONDS)
        left -= _LOOK_SECONDS
