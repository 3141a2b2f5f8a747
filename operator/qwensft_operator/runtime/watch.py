"""Hears of changes: kopf starts, logs in and ends; what kopf cannot do is done by a reflector for each kind.

kopf's own watches are not used, nor its persistence (annotations, finalizers, peering): it gives a watch up at an error
that it takes for final, tells no handler that a list is complete, and reads whole objects only.
ADR 0095 says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf

from qwensft_operator.runtime.kinds import CHILDREN, RUNS
from qwensft_operator.runtime.kube import Kube
from qwensft_operator.runtime.reflector import Reflector
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.streams import Stream, Streams

_RETRY_SECONDS = 5.0  # after a request of kopf's own that is refused or not answered
_END_SECONDS = 2.0


class Watcher:
    """Keeps the store true: of QwenSFTJobs, and of the Jobs, pods, Services, ConfigMaps and claims made for them."""

    def __init__(self, kube: Kube, store: Store, namespaces: tuple[str, ...], *, timeout: float) -> None:
        self._kube, self._store, self._timeout = kube, store, timeout
        self._namespaces = namespaces
        self.streams = Streams((RUNS, *CHILDREN), namespaces)
        self._reflecting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End `run` gracefully."""
        self._stop.set()

    async def wait_listed(self, patience: float) -> None:
        """Return when all that can be listed has been, or after that many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for runs in self.streams.of(RUNS):
                    await runs.first_answer.wait()
                    for stream in self._children(runs) if runs.first_list.is_set() else ():
                        await stream.first_answer.wait()

    async def run(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Watch until stopped.

        Args:
            on_start: Called once kopf has started; it has then replaced the process's signal handlers.
        """
        # Scanning off: it would need permission to watch all CRDs and namespaces, and tells nothing that is needed.
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.networking.request_timeout = self._timeout
        settings.networking.error_backoffs = itertools.repeat(_RETRY_SECONDS)
        settings.process.ultimate_exiting_timeout = None
        before = asyncio.all_tasks()  # kopf takes every later task for one of its own
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=settings,
            # Only peering shows it; kopf would make one from the user's name, which an arbitrary UID does not have.
            identity="qwen-sft-operator",  # type: ignore[arg-type]
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )
        on_start()
        watching = asyncio.create_task(kopf.run_tasks(tasks, ignored=before), name="kopf")
        stopping = asyncio.create_task(self._stop.wait(), name="stop watching")
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # kopf waits 5 s for tasks of others, such as those that answer probes.
        done, _ = await asyncio.wait({watching}, timeout=_END_SECONDS)
        for task in (watching, stopping):
            task.cancel()
        await asyncio.wait({watching, stopping}, timeout=_END_SECONDS)
        for ended in (*done, self._reflecting):
            if ended is not None and ended.done() and not ended.cancelled():
                ended.result()

    def _registry(self) -> kopf.OperatorRegistry:
        # An empty registry, not kopf's default one: that one logs in through the synchronous client.
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.cleanup(registry=registry)(self._end)
        return registry

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=self._kube.configuration.host, aiohttp_session=self._kube.session())

    async def _start(self, **_: Any) -> None:
        self._reflecting = asyncio.create_task(self._reflect(), name="reflect")
        self._reflecting.add_done_callback(lambda _: self.stop())  # it never ends by itself but by a fault of ours

    async def _end(self, **_: Any) -> None:
        if self._reflecting is not None:
            self._reflecting.cancel()
            await asyncio.wait({self._reflecting})

    async def _reflect(self) -> None:
        async with self._kube.session() as session, asyncio.TaskGroup() as group:
            for runs in self.streams.of(RUNS):
                group.create_task(Reflector(self._kube, self._store, runs).run(session), name=str(runs))
                group.create_task(self._follow(session, runs), name=f"children in {runs.namespace}")

    def _children(self, runs: Stream) -> list[Stream]:
        return [s for s in self.streams if s.namespace == runs.namespace and s is not runs]

    async def _follow(self, session: aiohttp.ClientSession, runs: Stream) -> None:
        """Watch the children once the runs are known: of those that are over nothing need be remembered."""
        await runs.first_list.wait()
        async with asyncio.TaskGroup() as group:
            for stream in self._children(runs):
                group.create_task(Reflector(self._kube, self._store, stream).run(session), name=str(stream))
