"""What a run is at, in one line, and where that line is shown: rewritten in place, or below each other in a log."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final, Protocol

from qwensft.api.v1alpha1 import ConditionType, Phase, Progress, QwenSFTJob
from qwensft.client import words

_BAR: Final = 20  # characters
_PHASE: Final = 11
_BETWEEN_LINES: Final = 30.0  # seconds between two lines in a log
_DOING: Final = {
    Phase.PREPARING: "checking and tokenising the rows",
    Phase.TRAINING: "starting the training pods",
    Phase.MERGING: "merging and verifying the result",
}
_ROUTINE: Final = ("Starting", "PodsStarting", "Running", "Completed")


def line(job: QwenSFTJob) -> str:
    """Return one line on what a run is at: phase, progress, and the reason where it does not simply go on."""
    phase = str(job.status.phase or Phase.PENDING)
    progress = job.status.progress
    if phase == Phase.TRAINING and progress and progress.total_steps and progress.step is not None:
        return f"{phase:<{_PHASE}} {_steps(progress)}"
    succeeded = job.status.condition(ConditionType.SUCCEEDED)
    if succeeded is None:
        said = "the operator has not looked at it yet"
    elif succeeded.reason in _ROUTINE:
        said = _DOING.get(Phase(phase) if phase in {*Phase} else Phase.PENDING, succeeded.message)
    else:
        said = f"{succeeded.reason}: {succeeded.message}"
    return f"{phase:<{_PHASE}} {words.plain(said)}".rstrip()


def _steps(progress: Progress) -> str:
    step, total = progress.step or 0, progress.total_steps or 1
    share = min(100, 100 * step // total)
    parts = [f"{words.bar(share, _BAR)} {share:3d} %", f"step {step}/{total}"]
    if progress.loss is not None:
        parts.append(f"loss {words.number(progress.loss)}")
    if progress.eval_loss is not None:
        parts.append(f"evaluation {words.number(progress.eval_loss)}")
    if progress.eta:
        parts.append(f"{progress.eta} left")
    return "  ".join(parts)


def transferred(what: str, done: int, size: int) -> str:
    """Return one line on bytes that are on their way; `what` is one word, and says which."""
    share = min(100, 100 * done // size) if size else 100
    return f"{what:<{_PHASE}} {words.bar(share, _BAR)} {share:3d} %  {words.size(done)} of {words.size(size)}"


class Display(Protocol):
    """Where the line is shown."""

    def show(self, text: str) -> None:
        """Show a line in place of the one before, where that is possible."""

    def close(self) -> None:
        """Leave the last line where it is."""


class Nowhere:
    """Shows nothing."""

    def show(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Terminal:
    """One line of a terminal, rewritten."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._shown = stream, ""

    def show(self, text: str) -> None:
        """Rewrite the line, cut to the terminal's width."""
        import shutil  # noqa: PLC0415

        text = text[: shutil.get_terminal_size().columns - 1]
        if text != self._shown:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
            self._shown = text

    def close(self) -> None:
        """End the line."""
        if self._shown:
            self._stream.write("\n")
            self._stream.flush()


class Log:
    """Lines below each other: the first and the last one of each phase, and between them one now and then."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._said, self._head, self._at = stream, "", "", 0.0
        self._last = ""  # the last line of the phase, written or not

    def show(self, text: str) -> None:
        """Write the line if it is the first of its phase, or the last one was a while ago."""
        head = text.split(maxsplit=1)[0]
        if head != self._head:
            self.close()
        elif time.monotonic() - self._at < _BETWEEN_LINES:
            self._last = text
            return
        self._write(text)
        self._head, self._at = head, time.monotonic()

    def close(self) -> None:
        """Write the last line of the phase, if it was not."""
        self._write(self._last)

    def _write(self, text: str) -> None:
        if text != self._said:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        self._said = self._last = text


class Notebook:
    """One output of a notebook's cell, updated."""

    def __init__(self, display: Any) -> None:
        self._display, self._shown = display, ""
        self._handle: Any = None

    def show(self, text: str) -> None:
        """Update the output."""
        if text == self._shown:
            return
        content = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
        self._shown = text

    def close(self) -> None:
        """Do nothing: the output stays."""


def display() -> Display:
    """Return the display that fits where this runs."""
    # IPython is there already where a notebook runs.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        from IPython.display import display as show  # noqa: PLC0415

        return Notebook(show)
    moves = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return Terminal(sys.stderr) if moves else Log(sys.stderr)
