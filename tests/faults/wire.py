"""The line between an operator and its API server: it counts writes, and can be cut at any of them.

ADR 0111 says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from qwensft_operator.runtime.clock import ServerClock
from qwensft_operator.runtime.kube import Kube, KubeError, Manifest, Patch, TransientError


class Cut(Enum):
    """What happens at a write. A crash ends the operator; after an error it goes on, and cannot know what was done."""

    CRASH_BEFORE = "it dies before the write"
    CRASH_AFTER = "it dies after the write"
    UNSENT = "the write is not sent"
    UNANSWERED = "the write is done and its answer is lost"

    @property
    def crashes(self) -> bool:
        """Whether the operator ends."""
        return self in (Cut.CRASH_BEFORE, Cut.CRASH_AFTER)

    @property
    def lands(self) -> bool:
        """Whether the write is done."""
        return self in (Cut.CRASH_AFTER, Cut.UNANSWERED)


class CrashError(BaseException):
    """The operator ends here. No handler of its own may see that."""


class Carrier(Protocol):
    """Brings a request to an API server; the signature of `Kube._request`."""

    def __call__(
        self, method: str, path: str, *, query: Mapping[str, str] | None, body: Manifest | Patch | None,
        content_type: str, accept: str,
    ) -> Awaitable[Manifest]: ...  # fmt: skip


@dataclass
class Line:
    """What one operator after another has written, and where the line is cut."""

    cut_at: int | None = None
    how: Cut = Cut.CRASH_BEFORE
    spares_events: bool = False  # Events are no writes that count
    writes: list[tuple[str, str]] = field(default_factory=list)  # method and path
    events: int = 0  # how many were written, those included that say something again
    before: Callable[[str, str], Awaitable[None]] | None = None
    """Called with method and path before every request; may raise what the API server would answer."""

    def count(self, method: str, path: str) -> Cut | None:
        """Take note of a write; return how it is cut."""
        is_event = "/events" in path
        self.events += is_event
        if is_event and self.spares_events:
            return None
        self.writes.append((method, path))
        return self.how if len(self.writes) - 1 == self.cut_at else None


class Wire(Kube):
    """A client on such a line."""

    def __init__(self, carry: Carrier, line: Line) -> None:
        self._carry, self._line = carry, line
        self.on_write = lambda resource, manifest: None
        self.clock = ServerClock()

    async def close(self) -> None:
        """The connections belong to the carrier."""

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | Patch | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        request: dict[str, Any] = {"query": query, "body": body, "content_type": content_type, "accept": accept}
        if self._line.before is not None:
            await self._line.before(method, path)
        if method == "GET":
            return await self._carry(method, path, **request)
        cut = self._line.count(method, path)
        if cut is None or cut.lands:
            try:
                answer = await self._carry(method, path, **request)
            except KubeError:
                if cut is None:
                    raise
            else:
                if cut is None:
                    return answer
        assert cut is not None
        raise CrashError if cut.crashes else TransientError(0, "ClientOSError", f"{method} {path}: {cut.value}")
