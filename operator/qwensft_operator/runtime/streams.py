"""How the watches do: which are open, since when not and why, and when each was heard of last.

ADR 0097 says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from qwensft_operator.runtime.kinds import Kind
from qwensft_operator.runtime.kube import KubeError, Resource

_RECONNECT_SECONDS = 5.0  # the API server ends every watch after some minutes; the next opens at once

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Stream:
    """The watch of one kind in one namespace; "" is all namespaces."""

    kind: Kind
    namespace: str
    now: Callable[[], float] = time.monotonic
    version: str = ""  # of the last list or event
    first_list: asyncio.Event = field(default_factory=asyncio.Event)  # set once it is complete
    first_answer: asyncio.Event = field(default_factory=asyncio.Event)  # set once it is, or has failed
    is_behind: bool = True  # until the next list is complete: what has happened may not all be known
    problem: str = "no answer yet"  # "" while it lists or watches
    failures: int = 0
    heard_at: float = field(init=False)  # the last page, event or bookmark
    open_at: float = field(init=False)  # when it was last seen to work

    def __post_init__(self) -> None:
        """Begin now."""
        self.heard_at = self.open_at = self.now()

    def __str__(self) -> str:
        """Return the path of the collection."""
        return self.kind.resource.path(self.namespace)

    @property
    def age(self) -> float:
        """Seconds since the last page, event or bookmark."""
        return self.now() - self.heard_at

    @property
    def closed_for(self) -> float:
        """For how many seconds it has not worked; 0 while it does."""
        return self.now() - self.open_at if self.problem else 0.0

    @property
    def works(self) -> bool:
        """Whether it has listed, and lists or watches again, but for moments."""
        return self.first_list.is_set() and self.closed_for <= _RECONNECT_SECONDS

    @property
    def hears(self) -> bool:
        """Whether the store holds all that there is, but for moments."""
        return self.works and not self.is_behind

    def heard(self) -> None:
        """A part of a list has come in."""
        self.heard_at = self.now()

    def listed(self) -> None:
        """A list is complete."""
        self.is_behind = False
        self.first_list.set()
        self.first_answer.set()
        self.opened()

    def opened(self) -> None:
        """The watch has opened, or an event or bookmark has come in."""
        self.heard_at = self.open_at = self.now()
        if self.failures:
            logger.info("watching %s again", self)
        self.problem, self.failures = "", 0

    def lost_track(self) -> None:
        """Only another list can tell what has happened: the API server does not know any more, or an event was lost."""
        self.is_behind = True

    def failed(self, error: Exception) -> None:
        """A list or a watch was refused, broke off or made no sense."""
        self.first_answer.set()
        known = isinstance(error, KubeError)
        problem = f"{error.status or 'no answer'} {error.reason}" if isinstance(error, KubeError) else repr(error)
        if not self.problem:
            self.open_at = self.now()
        news = problem != self.problem
        self.problem, self.failures = problem, self.failures + 1
        level = logging.WARNING if news else logging.DEBUG
        logger.log(level, "not watching %s, trying again: %s", self, error, exc_info=None if known else error)


class Streams:
    """All watches."""

    def __init__(self, kinds: Iterable[Kind], namespaces: tuple[str, ...]) -> None:
        self._streams = {(kind.resource, ns): Stream(kind, ns) for kind in kinds for ns in namespaces or ("",)}

    def __iter__(self) -> Iterator[Stream]:
        """Go through them, the kinds one after the other."""
        return iter(self._streams.values())

    def of(self, kind: Kind) -> list[Stream]:
        """The watches of one kind, one for each namespace."""
        return [stream for stream in self if stream.kind is kind]

    def hears(self, resource: Resource, namespace: str) -> bool:
        """Whether the store can be asked for this kind in this namespace."""
        stream = self._streams.get((resource, namespace)) or self._streams.get((resource, ""))
        return stream is not None and stream.hears

    def not_ready(self) -> str:
        """Name the kinds that are heard of in no namespace, with the last answer; "" when there are none.

        One namespace of several that is gone, or where a right is missing, is told by log and metrics, and holds up
        nothing.
        """
        deaf = [stream for stream in self if not any(other.works for other in self.of(stream.kind))]
        return ", ".join(f"{stream} ({stream.problem})" for stream in deaf)

    def deaf_for(self) -> float:
        """For how many seconds no watch at all has worked."""
        return min((stream.closed_for for stream in self), default=0.0)
