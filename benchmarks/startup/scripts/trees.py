"""Processes that are measured: started in a session of their own, watched with all that they start, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.01
_LIMIT_SECONDS = 600.0


class Tree:
    """A process and its descendants, from the moment of its start."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as output:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | dict(environment),
                start_new_session=True,
            )

    def until(self, reached: Callable[[], bool]) -> float:
        """Seconds from the start until something is so. SystemExit with the end of the log when it ends before."""
        while not reached():
            if self._process.poll() is not None or time.monotonic() - self.began > _LIMIT_SECONDS:
                self.end()
                raise SystemExit(f"{self._log} ended too early:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(_LOOK_SECONDS)
        return time.monotonic() - self.began

    def cpu(self) -> float:
        """User and system seconds of all that live, and of those that these have waited for."""
        total = 0
        for pid in self._living():
            with contextlib.suppress(OSError):
                total += sum(map(int, _fields(pid)[11:15]))
        return total / _TICKS

    def finish(self) -> tuple[float, float]:
        """Wall and CPU seconds to its own end, with all that it has waited for. SystemExit when it fails."""
        _, status, usage = os.wait4(self._process.pid, 0)
        seconds = time.monotonic() - self.began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode != 0:
            raise SystemExit(f"{self._log} failed:\n{self._log.read_text(errors='replace')[-4000:]}")
        return seconds, usage.ru_utime + usage.ru_stime

    def end(self) -> None:
        """Kill what is left of it, whatever sessions it has begun."""
        for pid in self._living():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _living(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents.setdefault(int(_fields(int(entry.name))[1]), []).append(int(entry.name))
        found, pending = [], [self._process.pid]
        while pending:
            found.append(pid := pending.pop())
            pending += parents.get(pid, [])
        return found


def _fields(pid: int) -> list[str]:
    """Those of /proc/PID/stat after the name: state, parent, ..., utime, stime, cutime, cstime from the twelfth on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
