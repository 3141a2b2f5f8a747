"""Logs as they are written: of all pods that come, until the run has ended; a stream that breaks is opened anew.

The API server ends streams when it is restarted, a kubelet does, and what lies between drops those in which nothing is
said. So a pod's log is at its end only where a stream that was opened after its end has come to its own. Every line
comes with the time at which its node took note of it, by which another stream begins where the one before broke.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from qwensft.api.v1alpha1 import QwenSFTJob, Stage
from qwensft.client import logs
from qwensft.client.answers import Lines
from qwensft.client.connection import Connection
from qwensft.client.errors import NotFoundError, RefusedError, ServerError, UnreachableError
from qwensft.client.logs import LogLine
from qwensft.client.reading import has_ended

Document = dict[str, Any]

_LOOK: Final = 2.0  # seconds between two looks for new pods
_AHEAD: Final = 1000  # lines that are held in memory until someone takes them
_TRIES: Final = 3  # in a row for the log of a pod that cannot be read, once its run has ended
_PASSING: Final = (UnreachableError, ServerError, RefusedError)  # refused: its container is about to start
_STAMP: Final = re.compile(
    rb"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<part>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d) ?"
)


def follow(
    connection: Connection,
    look: Callable[[], QwenSFTJob],
    *,
    stage: Stage | None = None,
    rank: int | None = None,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """Yield lines of all pods as they are written, those of later attempts and stages, too, until the run has ended.

    Of attempts that were over before, the last one alone is shown. An API server that is away is waited for.

    Args:
        connection: Where the pods are.
        look: Reads the run.
        stage: Only pods of this stage.
        rank: Only pods of this node rank.
        tail: How many lines of each pod that is there already are shown first; None: all.
    """
    following = _Following(connection, look, stage, rank, tail)
    following.look()
    try:
        while not following.is_over():
            yield from following.wait()
            with suppress(UnreachableError, ServerError):  # the next look says what has come of it
                following.look()
    finally:
        following.close()


@dataclass(slots=True, eq=False)
class _Log:
    """The log of one pod: how far it was read."""

    pod: Document
    tail: int | None = None
    is_open: bool = False
    is_done: bool = False
    failures: int = 0
    stream: Lines | None = None
    began: str = ""
    """When it was first opened, by the server's clock."""
    last: bytes = b""
    """The time of its newest line."""
    count: int = 0
    """How many lines have this time."""
    odd: bytes = b""
    """The last line without a time: a kubelet's own words, which it says again to whoever asks again."""

    def query(self) -> Document:
        """What is asked for so that nothing is missed."""
        query: Document = {"container": logs.CONTAINER, "follow": "true", "timestamps": "true"}
        if self.last:
            return query | {"sinceTime": _seconds(self.last)}
        if self.tail is None:
            return query
        return query | ({"sinceTime": self.began} if self.began else {"tailLines": self.tail})

    def new(self, lines: Lines, *, was_whole: bool) -> Iterator[str]:
        """Yield the lines that were not seen before."""
        known, again = (_moment(self.last), self.count) if self.last else (None, 0)
        for line in lines:
            if lines.is_cut and not was_whole:
                return  # it comes again, whole
            self.failures = 0
            stamp = _STAMP.match(line)
            if stamp is None:
                if line != self.odd:
                    self.odd = line
                    yield line.decode(errors="replace")
                continue
            if known is not None:
                moment = _moment(stamp[0])
                if moment == known and again:
                    again -= 1
                    continue
                if moment < known:
                    continue
                known = None
            self.last, self.count = stamp[0], self.count + 1 if stamp[0] == self.last else 1
            yield line[stamp.end() :].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _End:
    """What a stream says last."""

    log: _Log
    was_whole: bool = False
    """Whether its container had ended before it was opened."""
    error: Exception | None = None


@dataclass(slots=True)
class _Following:
    connection: Connection
    read: Callable[[], QwenSFTJob]
    stage: Stage | None
    rank: int | None
    tail: int | None
    job: QwenSFTJob | None = None
    known: dict[str, _Log] | None = None
    """By the UID of the pod."""
    items: queue.Queue[LogLine | _End] = field(default_factory=lambda: queue.Queue(_AHEAD))
    closed: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Look at the run and its pods, and open what is there to be read."""
        self.job = self.read()
        pods = self.connection.list("pods", labelSelector=logs.of_run(self.job))["items"]
        there = {pod["metadata"]["uid"]: pod for pod in sorted(pods, key=logs.place)}
        meant = {uid: pod for uid, pod in there.items() if self._is_meant(pod)}
        if self.known is None:
            last = {pod["metadata"]["uid"] for pod in logs.chosen(pods, self.stage, None, self.rank)}
            over = {uid for uid, pod in meant.items() if logs.has_ended(pod) and uid not in last}
            self.known = {uid: _Log(pod, self.tail, is_done=uid in over) for uid, pod in meant.items()}
        for uid, log in self.known.items():
            log.is_done = log.is_done or (uid not in there and not log.is_open)
        for uid, pod in meant.items():
            log = self.known.setdefault(uid, _Log(pod))
            if not (log.is_done or log.is_open):
                self._open(log, was_whole=logs.has_ended(pod))

    def wait(self) -> Iterator[LogLine]:
        """Yield what comes until it is time for another look."""
        until = time.monotonic() + _LOOK
        while (left := until - time.monotonic()) > 0:
            try:
                item = self.items.get(timeout=left)
            except queue.Empty:
                return
            if isinstance(item, LogLine):
                yield item
                continue
            self._note(item)
            if self.is_over():
                return

    def is_over(self) -> bool:
        """Whether nothing can come any more."""
        if self.job is None or any(log.is_open or not log.is_done for log in (self.known or {}).values()):
            return False
        record = getattr(self.job.status.stages, self.stage) if self.stage else None
        return has_ended(self.job) or (record is not None and record.completion_time is not None)

    def close(self) -> None:
        """Hang up; the threads end."""
        self.closed.set()
        for log in (self.known or {}).values():
            if log.stream is not None:
                log.stream.close()

    def _is_meant(self, pod: Document) -> bool:
        rank = logs.place(pod)[2]
        return logs.has_log(pod) and self.stage in (None, logs.stage_of(pod)) and self.rank in (None, rank)

    def _open(self, log: _Log, *, was_whole: bool) -> None:
        log.is_open = True
        name = f"log of {log.pod['metadata']['name']}"
        threading.Thread(target=self._copy, args=(log, was_whole), daemon=True, name=name).start()

    def _copy(self, log: _Log, was_whole: bool) -> None:
        """Put what a pod logs into the queue: what runs in a thread of its own."""
        try:
            with closing(self.connection.log(log.pod["metadata"]["name"], **log.query())) as log.stream:
                log.began = log.began or _rfc3339(log.stream.date)
                for line in log.new(log.stream, was_whole=was_whole):
                    self._put(logs.labelled(log.pod, line))
                    if self.closed.is_set():
                        return
        except Exception as error:  # whoever follows is told
            self._put(_End(log, error=error))
        else:
            self._put(_End(log, was_whole))

    def _put(self, item: LogLine | _End) -> None:
        """Wait until there is room: whoever reads slowly has not all logs in memory."""
        while not self.closed.is_set():
            with suppress(queue.Full):
                self.items.put(item, timeout=1)
                return

    def _note(self, end: _End) -> None:
        """Take note of the end of a stream; the next look opens another one, if its log is not at its end."""
        log = end.log
        log.is_open, log.stream = False, None
        if end.error is None:
            log.is_done = end.was_whole
        elif isinstance(end.error, NotFoundError):
            log.is_done = True  # the pod was deleted
        elif isinstance(end.error, _PASSING):
            log.failures += 1
            log.is_done = log.failures >= _TRIES and self.job is not None and has_ended(self.job)
        else:
            raise end.error


def _moment(stamp: bytes) -> tuple[datetime, int]:
    """A time to compare with: runtimes write as many digits as they like, and zones, too."""
    second, part, zone = _STAMP.findall(stamp)[0]
    return datetime.fromisoformat((second + zone).decode()), int(part.ljust(9, b"0"))


def _seconds(stamp: bytes) -> str:
    """The second of a time, as the API server takes it: it knows no parts of them."""
    return _moment(stamp)[0].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rfc3339(date: str) -> str:
    try:
        return parsedate_to_datetime(date).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, TypeError):
        return ""
