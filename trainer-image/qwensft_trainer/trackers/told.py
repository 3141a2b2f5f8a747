"""What is known of each tracker: written by the process that reports, read by the entrypoint for status and figures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

from qwensft_trainer.base import files

_GAUGE = "qwensft_train_tracker_undelivered_lines"
HELP = "Log lines that have not reached a tracker; its labels tell where the run is to be seen."


@dataclass(frozen=True)
class Told:
    """`url` is where the run is to be seen, "" before it is known; `undelivered` counts log lines."""

    name: str
    url: str = ""
    run_id: str = ""
    undelivered: int = 0

    def document(self) -> dict[str, str | int]:
        """As the termination message has it."""
        return {"name": self.name, "url": self.url, "runId": self.run_id, "undelivered": self.undelivered}


class Board:
    """Takes what each tracker's thread tells, and keeps it in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: dict[str, Told] = {}
        self._lock = threading.Lock()

    def tell(self, told: Told) -> None:
        """Replace what was known of a tracker; nothing is written when that is the same.

        A scratch volume that takes nothing ends no reporting: what is told next is written with it.
        """
        with self._lock, contextlib.suppress(OSError):
            if self._told.get(told.name) != told:
                all_told = {**self._told, told.name: told}
                files.write_json(self._path, {"trackers": [asdict(one) for one in all_told.values()]})
                self._told = all_told


def read(path: Path) -> list[Told]:
    """What was told last; nothing before that."""
    return [Told(**one) for one in (files.read_json_object(path) or {}).get("trackers", [])]


def gauges(trackers: Sequence[Told]) -> Iterator[GaugeMetricFamily]:
    """The same as a figure with labels, for /metrics; none without trackers."""
    if trackers:
        gauge = GaugeMetricFamily(_GAUGE, HELP, labels=("tracker", "url", "run_id"))
        for told in trackers:
            gauge.add_metric((told.name, told.url, told.run_id), told.undelivered)
        yield gauge
