"""Notices that a training stands still, and shows where its processes are: in a file for each, and in the pod's log.

The worker of local rank 0 leaves a sign of life after every step; the entrypoint beside it looks at the time since. All
ranks end a step together, so one for each pod will do, and all pods notice at the same time.
ADR 0131 says why.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.stage import ACTIVITY_FILE

_MARK_EVERY_SECONDS = 1.0
_DUMP_SECONDS = 5.0  # for a process to write the stacks of all its threads
_MOST_CHARACTERS = 1 << 16  # of the stacks of a process
_STACKS = "stacks-{local_rank}-{pid}.txt"


@dataclass(frozen=True)
class Activity:
    """The last sign of life: `at` in seconds of the clock that all processes of a pod share (CLOCK_MONOTONIC).

    Nobody waits for the next one (`waits` is False) while a checkpoint is saved, and after the last step.
    """

    at: float
    step: int
    waits: bool = True


class Pulse:
    """Writes the activity of a training into the scratch directory, steps that follow quickly only once a second."""

    def __init__(self, scratch: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = scratch / ACTIVITY_FILE
        self._clock = clock
        self._last: Activity | None = None

    def mark(self, step: int, *, waits: bool = True) -> None:
        """Something was done at `step`."""
        now = self._clock()
        if self._last is not None and self._last.waits == waits and now - self._last.at < _MARK_EVERY_SECONDS:
            return
        self._last = Activity(now, step, waits)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self._last)), encoding="utf-8")  # lost with the pod, so never synced
        temporary.replace(self._path)


@dataclass(frozen=True)
class Stall:
    """A training that stood still: for how many seconds, and after which step."""

    seconds: float
    step: int


class Watch:
    """Looks whether the training of this pod stands still for `limit` seconds; 0 means never."""

    def __init__(self, scratch: Path, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = scratch / ACTIVITY_FILE
        self._limit = limit
        self._clock = clock

    def stalled(self) -> Stall | None:
        """The stall, if there is one now. Before training begins (imports, the model) there is no step to wait for."""
        values = files.read_json_object(self._path) if self._limit else None
        if values is None:
            return None
        last = Activity(**values)
        seconds = self._clock() - last.at
        return Stall(seconds, last.step) if last.waits and seconds >= self._limit else None


def answer_with_stacks(scratch: Path, local_rank: int) -> None:
    """Let this process write the Python stacks of all its threads into a file of the directory when it is asked to.

    faulthandler does so in the signal's handler: also while the process is held in a library that does not return.
    """
    path = scratch / _STACKS.format(local_rank=local_rank, pid=os.getpid())
    faulthandler.register(signal.SIGUSR1, file=path.open("w", encoding="utf-8"), all_threads=True)


def show_stacks(scratch: Path, kept: Path) -> None:
    """Ask all processes of this pod for their stacks; print them, and write them to `kept` as well."""
    shown = []
    for path in sorted(scratch.glob(_STACKS.format(local_rank="*", pid="*"))):
        _, local_rank, pid = path.stem.split("-")
        title = f"stacks of local rank {local_rank} (process {pid}), of each thread its most recent call first:"
        shown.append(f"{title}\n{_ask(int(pid), path)}\n")
    text = "".join(shown) or "no process of this pod could be asked for its stacks\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    try:
        files.write_text(kept, text)
    except OSError as error:
        log(f"the stacks are in this log alone: {error}")  # a volume that fails may be why training stands still


def _ask(pid: int, path: Path) -> str:
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        return "the process has ended"
    until = time.monotonic() + _DUMP_SECONDS
    before, text = None, ""
    while (before != text or not text) and time.monotonic() < until:
        time.sleep(0.2)
        before, text = text, path.read_text(encoding="utf-8", errors="replace")[:_MOST_CHARACTERS]
    return text or f"it did not answer within {_DUMP_SECONDS:.0f} s: the kernel or a driver holds it"
