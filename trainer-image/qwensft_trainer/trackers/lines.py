"""What a training logs, as lines of JSON: written by the worker of global rank 0, read by those who report it.

The file lies on the pod's scratch volume. Its last line is the entrypoint's, and says how the attempt ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Outcome = Literal["Succeeded", "Failed", "Interrupted"]

_MOST_BYTES = 1 << 18  # read at a time
_END = "end"
_END_LINE = b'{"end"'
_LONGEST_END = 64  # bytes


@dataclass(frozen=True)
class Entry:
    """What was logged after `step` optimizer steps, at the Unix time `time`."""

    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Batch:
    """Entries that follow one another, in a number of bytes; or, once none come any more, how the attempt ended."""

    entries: list[Entry] = field(default_factory=list)
    outcome: Outcome | None = None
    size: int = 0


def append(path: Path, step: int, logs: Mapping[str, Any]) -> None:
    """Add an entry with the numbers among `logs`."""
    values = {name: value for name, value in logs.items() if isinstance(value, int | float)}
    _append(path, {"step": step, "time": time.time(), "values": values})


def end(path: Path, outcome: Outcome) -> None:
    """Say that the attempt is over. A worker may have been killed in the middle of its last line."""
    _append(path, {_END: outcome}, before="\n")


def _append(path: Path, document: Mapping[str, Any], before: str = "") -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{before}{json.dumps(document)}\n")


class Lines:
    """The reader of one tracker: `next` gives what is there, until `take` says that the tracker has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = self._seen = 0  # bytes
        self._entries = self._delivered = 0  # of what is seen, and of what is taken

    def next(self) -> Batch:
        """The entries that nobody has taken yet, or the first of them."""
        entries: list[Entry] = []
        size = 0
        for line in self._whole_lines(self._taken):
            read = _read(line)
            if isinstance(read, Entry):
                entries.append(read)
            elif read is not None:
                return Batch(entries, None, size) if entries else Batch([], read, size + len(line))
            size += len(line)
        return Batch(entries, None, size)

    def take(self, batch: Batch) -> None:
        """Go on after this batch."""
        self._taken += batch.size
        self._delivered += len(batch.entries)

    def undelivered(self) -> int:
        """How many entries are still to be taken. Each line is looked at once, however many wait."""
        while lines := self._whole_lines(self._seen):
            self._entries += sum(isinstance(_read(line), Entry) for line in lines)
            self._seen += sum(map(len, lines))
        return self._entries - self._delivered

    def ended(self) -> bool:
        """Whether the attempt is over."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return False
        *_, last, rest = (b"", *self._from(max(0, size - _LONGEST_END), _LONGEST_END).split(b"\n"))
        return rest == b"" and last.startswith(_END_LINE)

    def _whole_lines(self, place: int) -> list[bytes]:
        """Some lines from this place on, without one that is still written."""
        *lines, _ = self._from(place, _MOST_BYTES).split(b"\n")
        return [line + b"\n" for line in lines]

    def _from(self, place: int, most: int) -> bytes:
        """What can be read there now: a disk in trouble may be well again at the next look."""
        try:
            with self._path.open("rb") as file:
                file.seek(place)
                return file.read(most)
        except OSError:
            return b""


def _read(line: bytes) -> Entry | Outcome | None:
    try:
        document = json.loads(line)
        if _END in document:
            return document[_END] if document[_END] in get_args(Outcome) else "Failed"
        return Entry(document["step"], document["time"], document["values"])
    except (ValueError, KeyError, TypeError):
        return None
