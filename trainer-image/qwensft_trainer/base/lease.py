"""A lock between pods on a shared volume, for file systems whose own locks cannot be trusted.

flock and fcntl do nothing between nodes on many mounts (NFS with nolock, some FUSE and Lustre mounts) and say so
nowhere. What every one of them has is the exclusive creation of a file. So the lock is a series of small files
`<name>.<n>`: whoever creates the next number holds it. The holder rewrites its file every few seconds; when the others
have not seen it change for a minute, by their own clocks, one of them creates the next number. A holder that was only
asleep finds that number and gives up (ADR 0019).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log

BEAT_SECONDS = 5.0
LEASE_SECONDS = 60.0
_POLL_SECONDS = 2.0
_REPORT_SECONDS = 60.0


class LeaseLost(BaseException):  # no Exception: the hubs' clients would try again
    """Another pod has taken the lease over: this one was not heard of for too long. What it wrote stays valid."""


class Lease:
    """Held between acquire() and release(). `owner` is told to those who wait; `note` may add how far the holder is."""

    def __init__(
        self,
        path: Path,
        owner: str,
        *,
        note: Callable[[], str] = str,
        beat: float = BEAT_SECONDS,
        lease: float = LEASE_SECONDS,
        poll: float = _POLL_SECONDS,
    ) -> None:
        self._path, self._owner, self._note = path, owner, note
        self._beat, self._lease, self._poll = beat, lease, poll
        self._token = uuid.uuid4().hex
        self._number = 0
        self._beats = 0
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, unless: Callable[[], bool]) -> bool:
        """Wait until the lease is ours (True), or until `unless` says that there is nothing left to do (False)."""
        seen: tuple[int, Any] | None = None
        changed, reported = time.monotonic(), -_REPORT_SECONDS
        while not unless():
            number = self._newest()
            content = self._read(number) if number else {"released": True}
            now = time.monotonic()
            if (number, content) != seen:
                seen, changed = (number, content), now
            is_free = (content is not None and content.get("released")) or now - changed >= self._lease
            if is_free and self._take(number + 1):
                if not unless():
                    return True
                self.release()  # the holder before has finished between our look at the work and that at the lease
                return False
            if not is_free and now - reported >= _REPORT_SECONDS:
                reported = now
                log(f"waiting for {_holder(content)}")
            time.sleep(self._poll * random.uniform(0.5, 1.5))  # noqa: S311
        return False

    def check(self) -> None:
        """Raises LeaseLost as soon as it is known that another pod has taken over."""
        if self._lost.is_set():
            raise LeaseLost

    @property
    def lost(self) -> bool:
        """Whether another pod has taken over, looked up on the volume."""
        return self._number > 0 and (self._lost.is_set() or not self._holds())

    def release(self) -> None:
        """Let the next one have it at once. The file stays: numbers only ever grow."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._holds():
            self._write({"released": True})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _take(self, number: int) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(self._file(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o664))
        except FileExistsError:
            return False
        if self._newest() > number:  # others have taken and released this number while we looked at an older one
            self._file(number).unlink(missing_ok=True)
            return False
        self._number = number
        self._write({"owner": self._owner, "token": self._token, "beat": 0})
        for older in self._numbers():
            if older < number:
                with contextlib.suppress(IsADirectoryError):  # which no pod has made
                    self._file(older).unlink(missing_ok=True)
        self._ended.clear()
        self._lost.clear()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return True

    def _keep(self) -> None:
        while not self._ended.wait(self._beat):
            try:
                if not self._holds():
                    self._lost.set()
                    return
                self._beats += 1
                self._write({"owner": self._owner, "token": self._token, "beat": self._beats, "note": self._note()})
            except OSError as error:
                log(f"cannot renew the lease {self._file(self._number)}: {error}")

    def _holds(self) -> bool:
        if self._number == 0 or self._file(self._number + 1).exists():
            return False
        content = self._read(self._number)
        return content is not None and content.get("token") == self._token

    def _read(self, number: int) -> dict[str, Any] | None:
        """None also when the volume does not answer: a holder is judged by what is seen to change."""
        try:
            return files.read_json_object(self._file(number))
        except OSError as error:
            log(f"cannot read the lease {self._file(number)}: {error}")
            return None

    def _write(self, content: dict[str, Any]) -> None:
        files.write_json(self._file(self._number), content)

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._path.parent.iterdir():
                name, _, number = path.name.rpartition(".")
                if name == self._path.name and number.isdigit():
                    found.append(int(number))
        return found

    def _file(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _holder(content: dict[str, Any] | None) -> str:
    if not content:
        return "another pod, which has just begun"
    note = f" ({content['note']})" if content.get("note") else ""
    return f"{content.get('owner', 'another pod')}, which is at it{note}"
