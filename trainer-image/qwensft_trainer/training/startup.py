"""What a training does before its first step, and for how long: marked as it happens, told as seconds.

Entrypoint and workers are processes of one pod and share the monotonic clock. The worker of global rank 0 leaves its
marks in a file; in a gang the others take about as long, or are waited for. ADR 0133 says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files

# What ends at each mark, in order: by the entrypoint, then by the worker.
CHECKED, GATHERED = "checks", "gang"
IMPORTED, JOINED, READ, LOADED, BEGAN = "imports", "rendezvous", "data", "model", "setup"
PHASES = (CHECKED, GATHERED, IMPORTED, JOINED, READ, LOADED, BEGAN)


def process_age() -> float:
    """Seconds since this process was started, in hundredths: Python itself, and what it has imported, are part of it.

    0 where the system does not tell.
    """
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # proc_pid_stat(5)
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


class Marks:
    """Moments of this process, in seconds of the monotonic clock; written to `path`, where there is one, at each."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.times: dict[str, float] = {}
        self._path = path
        self._clock = clock

    def mark(self, phase: str) -> None:
        """The phase has ended now."""
        self.times[phase] = self._clock()
        if self._path is not None:
            files.write_json(self._path, self.times)


def seconds(began: float, *marks: dict[str, Any]) -> dict[str, float]:
    """How long each phase took that has ended. `began`: when the first of them did, by the clock of the marks."""
    times = {phase: float(time) for one in marks for phase, time in one.items()}
    lengths, before = {}, began
    for phase in PHASES:
        if (ended := times.get(phase)) is not None:
            lengths[phase] = max(0.0, ended - before)
            before = ended
    return lengths


def follow_workflow(workflow: Any, marks: Marks) -> None:
    """Mark what LLaMA-Factory's workflow has done: it asks for the tokenizer first, then for rows and model."""
    _around(workflow, "load_tokenizer", before=lambda: marks.mark(JOINED))
    _around(workflow, "get_dataset", after=lambda: marks.mark(READ))
    _around(workflow, "load_model", after=lambda: marks.mark(LOADED))


def _around(
    module: Any, name: str, *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> None:
    function = getattr(module, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        before()
        result = function(*arguments, **named)
        after()
        return result

    setattr(module, name, timed)
