"""Progress on the terminal: numbered steps with their time, and tasks that run side by side.

On a terminal the running step shows a ticking clock; in a log file each finished step is one line.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator


class QuickstartError(Exception):
    """Something a person has to know about; the message says what happened and what to do."""


def clock(seconds: float) -> str:
    """Format a duration the way people say it: `8s`, `2m41s`, `1h02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(count: float) -> str:
    """Format a number of bytes in powers of ten: `682 B`, `11.4 MB`."""
    if count < 1000:
        return f"{count:.0f} B"
    factor, unit = next(
        (pair for pair in ((1e3, "kB"), (1e6, "MB")) if count < 1000 * pair[0]),
        (1e9, "GB"),
    )
    return f"{count / factor:.1f} {unit}"


class Line:
    """One line that is rewritten in place on a terminal and printed once per change elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self._open = False
        self._lock = threading.Lock()

    def update(self, text: str) -> None:
        """Show the text without ending the line. Does nothing when the output is no terminal."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            sys.stdout.write(f"\r\x1b[2K{text[:width]}")
            sys.stdout.flush()
            self._open = True

    def end(self, text: str) -> None:
        """Replace what `update` showed by a finished line."""
        with self._lock:
            if self._open:
                sys.stdout.write("\r\x1b[2K")
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
            self._open = False


class Steps:
    """Numbers the steps of one run: `[3/8] starting the cluster … 14s`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.began = time.monotonic()
        self.line = Line()

    @property
    def elapsed(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.began

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Run the body as the next step. The body may call the yielded function to tell what it is at."""
        self.number += 1
        label = f"[{self.number}/{self.total}] {title}"
        began = time.monotonic()
        detail = ""
        done = threading.Event()

        def note(text: str) -> None:
            nonlocal detail
            detail = f"  ({text})" if text else ""

        def tick() -> None:
            while not done.wait(1.0):
                self.line.update(f"{label} … {clock(time.monotonic() - began)}{detail}")

        self.line.update(f"{label} …")
        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield note
        except BaseException:
            done.set()
            ticker.join()
            self.line.end(f"{label} … failed after {clock(time.monotonic() - began)}")
            raise
        done.set()
        ticker.join()
        self.line.end(f"{label} … {clock(time.monotonic() - began)}{detail}")


def together(tasks: dict[str, Callable[[], None]], note: Callable[[str], None]) -> None:
    """Run the tasks side by side and tell how far each is.

    Waits for all of them, also after one has failed, so that nothing goes on in the background; then raises the first
    failure.
    """
    began = time.monotonic()
    finished: dict[str, str] = {}
    failures: list[BaseException] = []

    def run(name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)
            finished[name] = "failed"
        else:
            finished[name] = clock(time.monotonic() - began)
        tell()

    def tell() -> None:
        note(", ".join(f"{name}: {finished.get(name, 'running')}" for name in tasks))

    threads = [threading.Thread(target=run, args=item) for item in tasks.items()]
    tell()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
