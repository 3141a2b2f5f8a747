"""Puts the parts together in one event loop, watches over them, and takes them down in order.

A part that ends by itself ends the process: the kubelet restarts it, and everything can be derived from the cluster.
A Lease that is lost does not: the process stands by (ADR 0105).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import signal
import time
from datetime import timedelta

from qwensft_operator.runtime.definition import Definition
from qwensft_operator.runtime.execute import Executor
from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.health import HealthServer
from qwensft_operator.runtime.kinds import KINDS, Key
from qwensft_operator.runtime.kube import Kube
from qwensft_operator.runtime.leader import Leader, LeaderLostError
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.namespace_counters import NAMESPACE
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.observe import Observer
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.reader import Reader
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.run_metrics import RunMetrics
from qwensft_operator.runtime.scrape import Scraper
from qwensft_operator.runtime.settings import Settings
from qwensft_operator.runtime.status import Reporter
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.wake import Wakes
from qwensft_operator.runtime.watch import Watcher
from qwensft_operator.runtime.workloads import Workloads

_LISTING_SECONDS = 20.0  # until runs are looked at although not everything is listed: then they are read live
_DRAIN_SECONDS = 10.0  # for passes under way at SIGTERM; the pod's grace period is 30 s

logger = logging.getLogger(__name__)


class App:
    """The operator. `run` it once."""

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self._settings, self._kube = settings, kube
        self._queue: WorkQueue[Key] = WorkQueue()
        self._store = Store(Wakes(self._queue, asyncio.get_running_loop()))
        kube.on_write = self._store.wrote
        self._watcher = Watcher(kube, self._store, settings.namespaces, timeout=settings.request_timeout_seconds)
        self._scraper, self._metrics = Scraper(), Metrics()
        self._queue.on_wait = self._metrics.waited
        kube.on_request = self._metrics.requested
        self._acting_since: float | None = None
        runs = RunMetrics(
            self._metrics.registry,
            self._store,
            namespaces=settings.namespaces,
            is_leading=lambda: self._acting_since is not None,
            now=kube.clock.now,
        )
        reader = Reader(kube, self._store, self._watcher.streams.hears)
        nodes = Nodes(kube, enabled=settings.read_nodes)
        installation = f"{settings.lease_namespace}/{settings.lease_name}"  # the same for all its replicas
        self._reconciler = Reconciler(
            self._queue,
            self._store,
            Observer(
                reader,
                Explanations(kube),
                self._scraper,
                nodes,
                Workloads(kube),
                progress_interval=timedelta(seconds=settings.progress_interval_seconds),
                limits=settings.limits,
                worker_defaults=settings.defaults.worker,
                network_policies=settings.network is not None,
            ),
            Executor(
                kube,
                settings.defaults,
                installation,
                limits=settings.limits,
                network=settings.network,
            ),
            Reporter(kube, settings.identity),
            metrics=self._metrics,
            told=runs.told,
            scrape_interval=settings.scrape_interval_seconds,
            installation=installation,
            now=kube.clock.now,
        )
        self._leader = Leader(
            kube,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            duration=settings.lease_duration_seconds,
        )
        self._definition = Definition(kube)
        self._stop = asyncio.Event()
        self._add_gauges()
        self.registry = self._metrics.registry  # what /metrics shows
        self._health = HealthServer(self._live, self._ready, self.registry)

    async def run(self) -> int:
        """Run until SIGTERM, SIGINT or a failure; return the exit code."""
        self._handle_signals()
        await self._health.start(self._settings.health_port)
        watch = asyncio.create_task(self._watcher.run(on_start=self._handle_signals), name="watch")
        act = asyncio.create_task(self._act(), name="act")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({watch, act, stop}, return_when=asyncio.FIRST_COMPLETED)
        asked = self._stop.is_set()
        logger.log(logging.INFO if asked else logging.ERROR, "stopping%s", "" if asked else ": a part has ended")

        self._queue.close()
        if not asked or self._acting_since is None:
            act.cancel()  # a stand-by must not take office now
        ended = [await _end(act, _DRAIN_SECONDS)]
        if self._settings.leader_election:
            await self._leader.release()
        self._watcher.stop()
        await self._health.stop()
        ended += [await _end(watch, _DRAIN_SECONDS), await _end(stop, 0)]
        await self._scraper.close()
        await self._kube.close()
        return 0 if asked and all(ended) else 1

    async def _act(self) -> None:
        """Do the work, whenever this process leads, until the queue is closed."""
        await self._watcher.wait_listed(_LISTING_SECONDS)  # before the Lease is held, which must be renewed
        while not self._stop.is_set():
            if self._settings.leader_election:
                await self._leader.acquire()
            self._acting_since = time.monotonic()
            try:
                await self._work()
            except* LeaderLostError as lost:
                logger.error("no longer leading, standing by: %s", lost.exceptions[0])
            else:
                return
            finally:
                self._acting_since = None

    async def _work(self) -> None:
        """Bring runs forward until the queue is closed; a lost Lease cancels the passes under way."""
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._resync(), name="resync"),
                group.create_task(self._definition.check(), name="definition"),
            ]
            if self._settings.leader_election:
                beside.append(group.create_task(self._leader.hold(), name="hold"))
            await self._queue.run(self._reconciler.handle, self._settings.workers)
            for task in beside:
                task.cancel()

    async def _resync(self) -> None:
        """Have every run that is not over looked at: now, and again every `resync_seconds`, spread over a tenth."""
        spread = 0.0
        while True:
            for key in self._store.runs():
                self._queue.add_after(key, random.uniform(0, spread))  # noqa: S311
            await asyncio.sleep(self._settings.resync_seconds)
            spread = self._settings.resync_seconds / 10

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _live(self) -> str:
        silent, deaf = self._watcher.streams.deaf_for(), self._settings.deaf_after_seconds
        if silent > deaf:
            return f"not watching anything for {silent:.0f} s"
        if self._acting_since is None:
            return ""
        waited = self._oldest_wait()
        limit = self._settings.stuck_after_seconds
        return f"a run has waited {waited:.0f} s for a worker" if waited > limit else ""

    def _ready(self) -> str:
        closed = self._watcher.streams.not_ready()
        return f"not watching {closed}" if closed else ""

    def _oldest_wait(self) -> float:
        """Seconds for which a run has waited for a worker; what has waited for a leader has waited for none."""
        acting = 0.0 if self._acting_since is None else time.monotonic() - self._acting_since
        return min(self._queue.oldest_wait(), acting)

    def _add_gauges(self) -> None:
        gauge, queue = self._metrics.gauge, self._queue
        gauge("leader", "1 while this process acts.", lambda: float(self._acting_since is not None))
        gauge("workers", "Workers that bring runs forward.", lambda: self._settings.workers)
        gauge("workers_busy", "Workers that have a run in hand.", lambda: queue.processing)
        gauge("queue_depth", "Runs that wait for a worker.", lambda: queue.depth)
        gauge("queue_oldest_wait_seconds", "How long the oldest of them has waited.", self._oldest_wait)
        kept = [((kind.plural,), functools.partial(self._store.count, kind)) for kind in KINDS]
        self._metrics.gauges("objects", "Objects that are remembered, by resource.", ["resource"], kept)
        for name, help_text, field in (
            ("watch_age_seconds", "How long ago a watch was heard of last; a bookmark comes every minute.", "age"),
            ("watch_closed_seconds", "For how long a watch has been failing; 0 is well.", "closed_for"),
        ):
            streams = [
                ((s.kind.resource.plural, s.namespace), functools.partial(getattr, s, field))
                for s in self._watcher.streams
            ]
            self._metrics.gauges(name, f"{help_text} No namespace: all.", ["resource", NAMESPACE], streams)


async def _end(task: asyncio.Task[object], patience: float) -> bool:
    """Wait for a task, then cancel it; log why it failed. Return whether it ended well."""
    done, _ = await asyncio.wait({task}, timeout=patience)
    if not done:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await task
        except Exception:
            logger.exception("%s failed", task.get_name())
            return False
    return True


async def run(settings: Settings) -> int:
    """Connect to the cluster and run the operator; return the exit code."""
    kube = await Kube.connect(settings.request_timeout_seconds)
    return await App(settings, kube).run()
