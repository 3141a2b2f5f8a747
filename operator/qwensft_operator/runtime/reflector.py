"""Keeps the store true for one kind in one namespace: LIST in pages, then WATCH, for ever.

Whatever goes wrong is told and tried again with back-off and jitter; nothing ends it, and it holds up no other.
ADR 0095 says why. ADR 0199 says why, of an API server that has gone back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import NoReturn

import aiohttp

from qwensft_operator.runtime.kube import Kube, KubeError
from qwensft_operator.runtime.queue import Backoff
from qwensft_operator.runtime.store import Name, Store
from qwensft_operator.runtime.stream import SilenceError, watch
from qwensft_operator.runtime.streams import Stream

_WATCH_SECONDS = (
    240,
    480,
)  # after which the API server ends a watch; spread, so that they do not all begin anew at once
_SILENCE_SECONDS = 150.0  # a bookmark comes every minute: a connection that is still for longer is dead
_PAGE = 100  # objects
_GONE = 410

logger = logging.getLogger(__name__)


class Reflector:
    """Feeds one stream's objects into the store. `run` it once."""

    def __init__(self, kube: Kube, store: Store, stream: Stream, *, silence: float = _SILENCE_SECONDS) -> None:
        self._kube, self._store, self._stream, self._silence = kube, store, stream, silence
        self._backoff: Backoff[None] = Backoff(base=0.5, cap=30.0)
        self._reached = 0  # the highest resourceVersion of a list or an event

    async def run(self, session: aiohttp.ClientSession) -> NoReturn:
        """List and watch until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(session, version)
            except Exception as error:
                version = await self._failed(error)

    async def _list(self) -> str:
        kind, namespace = self._stream.kind, self._stream.namespace
        names: list[Name] = []
        at = ""
        self._stream.version = ""
        parts = self._kube.list_parts(
            kind.resource, namespace, label_selector=kind.selector, metadata_only=kind.metadata_only, size=_PAGE
        )
        async for version, page in parts:
            self._stream.heard()
            if int(version) < self._reached:
                logger.warning("%s: back at %s after %d: listing all as new", self._stream, version, self._reached)
                self._store.rewound(kind, namespace)
            at, self._reached = version, int(version)  # the same for all parts
            for manifest in page:
                self._store.observed(kind, manifest)
                names.append((manifest["metadata"]["namespace"], manifest["metadata"]["name"]))
        self._store.listed(kind, namespace, at, names)
        self._stream.listed()
        self._stream.version = at
        return at

    async def _watch(self, session: aiohttp.ClientSession, version: str) -> str:
        """Follow the events after a resourceVersion; return the last one when the API server ends the stream."""
        kind = self._stream.kind
        stream = watch(
            session,
            self._kube.configuration.host + kind.resource.path(self._stream.namespace),
            version,
            label_selector=kind.selector,
            metadata_only=kind.metadata_only,
            seconds=random.randint(*_WATCH_SECONDS),  # noqa: S311
            silence=self._silence,
            answered=lambda status: self._kube.on_request("watch", kind.resource.plural, status, None),
        )
        silent = True
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                self._stream.opened()
                if event is None:
                    continue
                silent = False
                self._backoff.forget(None)
                manifest = event["object"]
                if event["type"] == "DELETED":
                    self._store.deleted(kind, manifest)
                elif event["type"] in ("ADDED", "MODIFIED"):
                    self._store.observed(kind, manifest)
                self._stream.version = version = manifest["metadata"]["resourceVersion"]
                self._reached = max(self._reached, int(version))
        if silent:  # a server, or something before it, that ends streams at once must not be asked without pause
            await asyncio.sleep(self._backoff.next(None))
        return version

    async def _failed(self, error: Exception) -> str:
        """Wait before the next try; return the resourceVersion to watch from, "" for a new list."""
        status = error.status if isinstance(error, KubeError) else None
        silent = isinstance(error, SilenceError)
        if silent:  # which has lasted: also where bookmarks are not sent at all, each list comes soon
            self._backoff.forget(None)
        delay = self._backoff.next(None)
        watched = self._stream.version != ""  # else it was the list that failed
        # After a pause of the network or of the API server the watch goes on where it was; otherwise nothing is sure.
        # Nor is it after a silence: an API server that has gone back opens such a watch, and tells it nothing.
        passing = status is not None and (status in (0, 401, 429) or status >= 500) and not silent
        if not passing:
            self._stream.lost_track()
        if status == _GONE and watched:
            logger.debug("%s: listing anew: %s", self._stream, error)
        else:
            self._stream.failed(error)
        await asyncio.sleep(delay)
        return self._stream.version if passing else ""
