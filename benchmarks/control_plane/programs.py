"""Processes that are measured: started with a log of their own, ended by their id, read through /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 20.0  # seconds after SIGTERM


class Program:
    """A running process. Ends with the `with` block it stands in."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, insisting after a while."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """End it without a word: it has nothing to keep."""
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        """Raise SystemExit with the end of its log when it has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self.name} has ended ({self._process.returncode}):\n{self.log.read_text()[-4000:]}")

    def cpu_seconds(self) -> float:
        """Seconds of CPU time so far, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mb(self) -> float:
        """Resident memory now, in MB (10^6 bytes)."""
        return self._memory("VmRSS")

    def peak_mb(self) -> float:
        """The most it has been, in MB."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> float:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
        return kib * 1024 / 1e6


class Stopwatch:
    """Seconds of CPU time of some programs, and of the clock, since it was made."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._started, self._before = time.monotonic(), [program.cpu_seconds() for program in programs]

    def seconds(self) -> float:
        """Seconds by the clock."""
        return time.monotonic() - self._started

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds of each program by its name."""
        return {
            program.name: program.cpu_seconds() - before
            for program, before in zip(self._programs, self._before, strict=True)
        }
