"""Progress: numbered steps with their time, and tasks of a step that may run side by side.

Each part of a task is one line when it ends. On a terminal the running step shows a ticking clock beside; in a log file
it is told when nothing else was for a minute.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

LONGEST_SILENCE = 60.0
SHORTEST_PART = 1.0
# Characters of a part's title in the line of a running step: two of them fit on a terminal.
SHORT_TITLE, LONG_TITLE = 24, 60

Begin = Callable[[str], None]
"""Is called with the title of each part of some work when it begins, by the thread that does the work."""


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
    """One line that is rewritten in place on a terminal. Elsewhere it is printed when nothing else was for a while."""

    def __init__(self, silence: float = LONGEST_SILENCE) -> None:
        self.live = sys.stdout.isatty()
        self._open = False
        self._lock = threading.Lock()
        self._silence = silence
        self._printed = time.monotonic()

    def update(self, text: str) -> None:
        """Show the text without ending the line; in a log, print it after a long silence only."""
        if not self.live:
            if time.monotonic() - self._printed >= self._silence:
                self.end(text)
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
            self._printed = time.monotonic()


class Task:
    """Something that a step does, alone or beside others. Each part of it is told when it ends, with its duration.

    `tell` gets these lines. The outcome, a word or a duration, is set when the task has ended.
    """

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.outcome = ""
        self._prefix = f"{name}: " if name else ""
        self._tell = tell
        self._part = ""
        self._began = time.monotonic()

    def begin(self, part: str) -> None:
        """A part begins; the one before has ended."""
        self.end()
        self._part, self._began = part, time.monotonic()

    def end(self, *, failed: bool = False) -> None:
        """The part that runs has ended. It is not told when it took no time, such as a layer that was in a cache."""
        part, self._part = self._part, ""
        lasted = time.monotonic() - self._began
        if part and (failed or lasted >= SHORTEST_PART):
            self._tell(f"{self._prefix}{part} … {'failed after ' if failed else ''}{clock(lasted)}")

    def now(self, characters: int) -> str:
        """The part that runs, shortened, and for how long; else how the task ended; empty when nothing is known."""
        if not self._part:
            return self.outcome and f"{self._prefix}{self.outcome}"
        part = self._part if len(self._part) <= characters else self._part[: characters - 1] + "…"
        return f"{part} {clock(time.monotonic() - self._began)}"


class Step:
    """One numbered step while it runs: its tasks, and what is printed of them."""

    def __init__(self, label: str, line: Line) -> None:
        self.label = label
        self._line = line
        self._began = time.monotonic()
        self._tasks: list[Task] = []
        self._headed = False

    def task(self, name: str = "") -> Task:
        """Return a new task of this step; the only one needs no name."""
        self._tasks.append(Task(name, self._tell_of_part))
        return self._tasks[-1]

    def end_tasks(self, *, failed: bool = False) -> None:
        """End the parts that still run."""
        for task in self._tasks:
            task.end(failed=failed)

    def _tell_of_part(self, text: str) -> None:
        if not self._headed:
            self._line.end(f"{self.label} …")
            self._headed = True
        self._line.end(f"      {text}")

    @property
    def lasted(self) -> str:
        """The time since the step began."""
        return clock(time.monotonic() - self._began)

    def now(self) -> str:
        """The line of the running step."""
        known = ", ".join(self._known(SHORT_TITLE if self._line.live else LONG_TITLE))
        if self._headed:
            return f"      … {self.lasted} so far: {known}"
        return f"{self.label} … {self.lasted} so far{known and f': {known}'}"

    def finished(self) -> str:
        """The line of the step when it has ended well."""
        known = ", ".join(self._known(LONG_TITLE))
        return f"{self.label} … {self.lasted}{known and f'  ({known})'}"

    def _known(self, characters: int) -> list[str]:
        return [known for task in self._tasks if (known := task.now(characters))]


class Steps:
    """Numbers the steps of one run: `[3/8] starting the cluster … 14s`."""

    def __init__(self, total: int, silence: float = LONGEST_SILENCE) -> None:
        self.total = total
        self.number = 0
        self.began = time.monotonic()
        self.line = Line(silence)

    @property
    def elapsed(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.began

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run the body as the next step. The body may make tasks of the step, to tell what it is at."""
        self.number += 1
        step = Step(f"[{self.number}/{self.total}] {title}", self.line)
        done = threading.Event()

        def tick() -> None:
            while not done.wait(1.0):
                self.line.update(step.now())

        if self.line.live:
            self.line.update(f"{step.label} …")
        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield step
        except BaseException:
            done.set()
            ticker.join()
            step.end_tasks(failed=True)
            self.line.end(f"{step.label} … failed after {step.lasted}")
            raise
        done.set()
        ticker.join()
        step.end_tasks()
        self.line.end(step.finished())


def together(work: Mapping[str, Callable[[Begin], None]], task: Callable[[str], Task]) -> None:
    """Do all the work side by side, each as a task of its name, and tell how far each is.

    Waits for all of them, also after one has failed, so that nothing goes on in the background; then raises the first
    failure.
    """
    began = time.monotonic()
    failures: list[BaseException] = []

    def run(task: Task, one: Callable[[Begin], None]) -> None:
        try:
            one(task.begin)
        except BaseException as error:
            failures.append(error)
            task.end(failed=True)
            task.outcome = "failed"
        else:
            task.end()
            task.outcome = clock(time.monotonic() - began)

    threads = [threading.Thread(target=run, args=(task(name), one)) for name, one in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
