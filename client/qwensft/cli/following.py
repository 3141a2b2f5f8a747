"""Follow a run to its end: a screen that is drawn anew on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.cli.output import Paint, show
from qwensft.cli.views import status
from qwensft.client import progress, words
from qwensft.client.reading import has_ended

if TYPE_CHECKING:
    from qwensft.client import Client

_SECONDS_BETWEEN_LINES = 10.0


class Screen(Protocol):
    """Shows what is known of a run."""

    def show(self, job: QwenSFTJob, losses: list[float]) -> None:
        """Take note of the run as it is now."""


class Losses:
    """Training losses in the order in which they were seen: the status has the last one alone."""

    def __init__(self) -> None:
        self._by_step: dict[int, float] = {}

    def add(self, job: QwenSFTJob) -> list[float]:
        """Take note of a run, and return all losses so far; a step that is trained again counts once."""
        progress = job.status.progress
        if progress is not None and progress.step is not None and progress.loss is not None:
            self._by_step[progress.step] = progress.loss
        return [self._by_step[step] for step in sorted(self._by_step)]


class Lines:
    """A line for each change of phase or reason, and one every few seconds between."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last: tuple[str, str] | None = None
        self._printed = -_SECONDS_BETWEEN_LINES

    def show(self, job: QwenSFTJob, losses: list[float]) -> None:
        """Print a line, where it is time for one."""
        del losses
        now, state = time.monotonic(), (status.phase_of(job), status.reason_of(job))
        if state == self._last and (now - self._printed < _SECONDS_BETWEEN_LINES and not has_ended(job)):
            return
        self._last, self._printed = state, now
        show(f"{words.duration(now - self._began):>7}  {progress.line(job)}")


def follow(client: Client, name: str, screen: Screen) -> QwenSFTJob:
    """Show a run until it has ended, and return it as it is then."""
    losses = Losses()
    for job in client.watch_job(name):
        screen.show(job, losses.add(job))
        if has_ended(job):
            return job
    raise AssertionError("a watch without a time limit ends with the run")


@contextmanager
def screen_for(paint: Paint, now: Callable[[], datetime], *, live: bool) -> Iterator[Screen]:
    """Give the screen for this output; a live one keeps what it showed last. `now` is the cluster's time."""
    if not live:
        yield Lines()
        return
    from rich.console import Console  # takes a while to import
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)

    class Drawn:
        job: QwenSFTJob | None = None
        losses: list[float]

        def show(self, job: QwenSFTJob, losses: list[float]) -> None:
            self.job, self.losses = job, losses
            shown.refresh()

        def __rich__(self) -> Text:
            if self.job is None:
                return Text("")
            return Text.from_ansi(status.text(self.job, now(), self.losses, paint, console.width), no_wrap=False)

    drawn = Drawn()
    with Live(drawn, console=console, refresh_per_second=2) as shown:
        yield drawn
