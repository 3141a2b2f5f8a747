"""Answers that go on: lines as they are written, with a limit to how long nothing may come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from qwensft.client.errors import UnreachableError


class SilentError(UnreachableError):
    """Nothing has come for as long as that may last: there is nothing to be said, or nobody there to say it."""


class Lines:
    """The lines of an answer that goes on, without their ends. `close` may be called from another thread."""

    def __init__(self, answer: Any, doing: str) -> None:
        self._answer, self._doing = answer, doing
        self._closed = False
        self.is_cut = False
        """Whether the line that came last has no end: where the answer was broken off, it is a part of one."""

    def __iter__(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415 - kubernetes' own

        rest = b""
        try:
            for chunk in self._answer.stream(2**16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            if rest:
                self.is_cut = True
                yield rest
        except ReadTimeoutError as error:
            raise SilentError(f"cannot {self._doing}: nothing has come for too long; try again") from error
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed:
                raise UnreachableError(f"cannot {self._doing}: the connection broke: {error}") from error

    @property
    def date(self) -> str:
        """When the answer began, by the server's clock, as HTTP writes it; "" where it does not say."""
        return str(self._answer.headers.get("Date", ""))

    def close(self) -> None:
        """Hang up; an iteration that waits for a line ends."""
        self._closed = True
        shutdown = getattr(self._answer, "shutdown", None)  # urllib3 2.3
        if shutdown is not None:
            with suppress(ValueError, RuntimeError, OSError):
                shutdown()
