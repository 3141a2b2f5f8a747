"""Which watches are open now, by the requests that are made for them.

kopf tells neither that a stream is open nor that it has given one up, so its HTTP session is traced.
ADR 0061 says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

_LOOK_SECONDS = 1.0
_RECONNECT_SECONDS = 5.0  # the API server ends every watch after some minutes; the next opens at once


class StreamLostError(Exception):
    """A watch has been closed for too long: what happens in the cluster is not heard of any more."""


@dataclass
class _Stream:
    """The watch of one collection."""

    alive_at: float  # when it was last seen to be open, or on its way there
    response: aiohttp.ClientResponse | None = None  # of the latest watch request that was granted
    answer: str = "no answer yet"

    @property
    def open(self) -> bool:
        """Whether events can arrive."""
        return self.response is not None and not self.response.closed


class Streams:
    """The watches of the collections at some paths. All must be open all the time, but for moments."""

    def __init__(self, host: str, paths: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        """Args: `host` is the API server's URL, which may have a path of its own; `paths` are relative to it."""
        root = urlsplit(host).path.rstrip("/")
        self._streams = {root + path: _Stream(now()) for path in paths}
        self._now = now

    def trace(self) -> aiohttp.TraceConfig:
        """Return what an HTTP session needs so that its requests are seen here."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._on_request_end)
        trace.on_request_exception.append(self._on_request_exception)
        return trace

    def not_ready(self) -> str:
        """Name the watches that have not opened yet, or are closed and not back at once; "" when all are open."""
        return self._named(lambda stream: stream.response is None or self._closed_for(stream) > _RECONNECT_SECONDS)

    async def supervise(self, patience: float) -> None:
        """Look at all watches until cancelled.

        Args:
            patience: For how many seconds a watch may be closed, also at the start.

        Raises:
            StreamLostError: One was closed for longer.
        """
        for stream in self._streams.values():
            stream.alive_at = self._now()  # watching begins now: waiting for the CRD before it may have taken days
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            lost = self._named(lambda stream: self._closed_for(stream) > patience)
            if lost:
                raise StreamLostError(f"closed for more than {patience:g} s: {lost}")

    def _closed_for(self, stream: _Stream) -> float:
        if stream.open:
            stream.alive_at = self._now()
        return self._now() - stream.alive_at

    def _named(self, chosen: Callable[[_Stream], bool]) -> str:
        return ", ".join(f"{path} ({stream.answer})" for path, stream in self._streams.items() if chosen(stream))

    async def _on_request_end(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, done: aiohttp.TraceRequestEndParams
    ) -> None:
        stream = self._streams.get(done.url.path)
        if stream is None:
            return
        stream.answer = f"{done.response.status} {done.response.reason}"
        if done.response.status == 200:
            stream.alive_at = self._now()  # a page of a long list is progress, too
            if done.url.query.get("watch") == "true":
                stream.response = done.response

    async def _on_request_exception(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, failed: aiohttp.TraceRequestExceptionParams
    ) -> None:
        stream = self._streams.get(failed.url.path)
        if stream is not None:
            stream.answer = type(failed.exception).__name__
