"""Hears of changes through kopf, and turns each into a key in the queue. Nothing else: no I/O, no patch, no state.

kopf's own persistence (annotations, finalizers, peering) is not used. What it delivers is a hint to look, never a fact.
ADR 0040 says why.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_MANAGED_BY, LABEL_STAGE, MANAGED_BY
from qwensft_operator import plan
from qwensft_operator.runtime.kube import JOBS, PODS, QWENSFTJOBS, Kube, Resource, TransientError
from qwensft_operator.runtime.observe import LABEL_CONTROLLER_UID, LABEL_INDEX, Key, running_address
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.scrape import PodAddresses
from qwensft_operator.runtime.watch_health import Streams

# What happens to a run comes in bursts (Job created, pod created, our own status write): one look is enough for all.
_COALESCE_SECONDS = 0.1
_RETRY_SECONDS = 5.0  # after a list or a watch that is refused or not answered
_CANCEL_SECONDS = 2.0

_WATCHED = (QWENSFTJOBS, JOBS, PODS)
_CHILDREN = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_JOB}"

logger = logging.getLogger(__name__)


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: no handler asks for differences, and copying every object for them cost most CPU time."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Return an empty essence: to kopf, all objects look alike."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was ever stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing: annotations belong to others."""


class Watcher:
    """Watches QwenSFTJobs and the Jobs and pods made for them."""

    def __init__(
        self,
        kube: Kube,
        queue: WorkQueue[Key],
        addresses: PodAddresses,
        namespaces: tuple[str, ...],
        *,
        timeout: float,
        patience: float,
    ) -> None:
        self._kube, self._queue, self._addresses = kube, queue, addresses
        self._namespaces, self._timeout, self._patience = namespaces, timeout, patience
        paths = (resource.path(namespace) for resource in _WATCHED for namespace in namespaces or ("",))
        self._streams = Streams(kube.configuration.host, paths)
        self._stop = asyncio.Event()

    def not_ready(self) -> str:
        """Return which watches are not open now, "" when all are; each has listed its objects before it opened."""
        return self._streams.not_ready()

    def stop(self) -> None:
        """End `run` gracefully."""
        self._stop.set()

    async def run(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Watch until stopped.

        Args:
            on_start: Called once kopf has started; it has then replaced the process's signal handlers.

        Raises:
            StreamLostError: A watch was closed for longer than `patience` seconds: its kind is gone, or a right.
        """
        await self._wait_for_crd()
        if self._stop.is_set():
            return
        # Scanning off: it would need permission to watch all CRDs and namespaces, and tells nothing that is needed.
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = NoDiffBase()
        settings.networking.request_timeout = self._timeout
        settings.networking.error_backoffs = itertools.repeat(_RETRY_SECONDS)  # when to give up is for us to say
        settings.process.ultimate_exiting_timeout = None
        # By default kopf reads the whole list at once, and keeps a task and the last event of each object for 5 s.
        settings.watching.chunk_size = 50
        settings.queueing.idle_timeout = 0.05
        for resource in (JOBS, PODS):
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = _CHILDREN
        supervising = asyncio.create_task(self._streams.supervise(self._patience), name="supervise watches")
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
        try:
            done, _ = await asyncio.wait({watching, supervising}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # kopf does not come to an end by itself once one of its watches has failed, nor at its first cancellation.
            for task in (supervising, watching):
                task.cancel()
            await asyncio.wait({supervising, watching}, timeout=_CANCEL_SECONDS)

    async def _wait_for_crd(self) -> None:
        reported = ""
        while not self._stop.is_set():
            try:
                if await self._kube.serves(QWENSFTJOBS):
                    return
                problem = f"the CustomResourceDefinition {QWENSFTJOBS.plural} is not installed; waiting for it"
            except TransientError as error:
                problem = f"waiting for the API server: {error}"
            if problem != reported:
                logger.warning("%s", problem)
                reported = problem
            try:
                await asyncio.wait_for(self._stop.wait(), timeout=2)
            except TimeoutError:
                continue

    def _registry(self) -> kopf.OperatorRegistry:
        # An empty registry, not kopf's default one: that one logs in through the synchronous client.
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.event(*_selector(QWENSFTJOBS), registry=registry)(self._on_run)
        kopf.on.event(*_selector(JOBS), registry=registry)(self._on_job)
        kopf.on.event(*_selector(PODS), registry=registry)(self._on_pod)
        return registry

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        session = self._kube.watch_session(self._streams.trace())
        return kopf.AiohttpSession(server=self._kube.configuration.host, aiohttp_session=session)

    async def _on_run(self, namespace: str | None, name: str | None, **_: Any) -> None:
        self._add(namespace, name)

    async def _on_job(
        self, namespace: str | None, event: kopf.RawEvent, labels: kopf.Labels, uid: str, **_: Any
    ) -> None:
        if event["type"] == "DELETED":
            self._addresses.drop(uid)
        self._add(namespace, labels.get(LABEL_JOB))

    async def _on_pod(self, namespace: str | None, event: kopf.RawEvent, labels: kopf.Labels, **_: Any) -> None:
        pod: Any = event["object"]
        job_uid = labels.get(LABEL_CONTROLLER_UID)
        if job_uid and labels.get(LABEL_STAGE) in plan.SCRAPED and labels.get(LABEL_INDEX, "0") == "0":
            address = None if event["type"] == "DELETED" else running_address(pod)
            if address is None:
                self._addresses.drop(job_uid, pod["metadata"]["uid"])
            else:
                self._addresses.set(job_uid, pod["metadata"]["uid"], address)
        self._add(namespace, labels.get(LABEL_JOB))

    def _add(self, namespace: str | None, name: str | None) -> None:
        if namespace and name:
            self._queue.add_after((namespace, name), _COALESCE_SECONDS)


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural
