"""The loop for one run: observe, decide, execute, write the status, tell, and say when to look again.

Judgement lives in `plan`. Whatever happens in here, the key is looked at again: at once, later, or after a back-off.
ADR 0104 says which failures are told, and when.
A write of ours wakes nobody (ADR 0095), so a pass that has said something new is followed by another, until none has.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime

from qwensft.api.v1alpha1 import InvalidJobError
from qwensft_operator import plan
from qwensft_operator.plan.types import Action, CreateJob, DeleteJob, ForgetAttempt
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.execute import Executor, NotYetError, ObstacleError
from qwensft_operator.runtime.installation import Overlap
from qwensft_operator.runtime.kinds import Key
from qwensft_operator.runtime.kube import (
    ConflictError,
    InvalidError,
    KubeError,
    Manifest,
    NamespaceTerminatingError,
    NotFoundError,
    TransientError,
)
from qwensft_operator.runtime.logging import about
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.observe import Observation, Observer
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.status import Reporter
from qwensft_operator.runtime.store import Store

_LIMIT_SECONDS = 120.0  # a pass makes about ten requests; one that takes longer hangs
_PATIENCE_SECONDS = 20.0  # for failures that mostly pass by themselves; longer, and the user hears of them
_SETTLE_SECONDS = 0.1
_FINAL = CreateJob | DeleteJob | ForgetAttempt  # cannot be taken back

logger = logging.getLogger(__name__)


class Reconciler:
    """Brings runs forward, one pass at a time. `handle` is what the queue's workers call."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        store: Store,
        observer: Observer,
        executor: Executor,
        reporter: Reporter,
        *,
        metrics: Metrics,
        scrape_interval: float,
        told: Callable[[Manifest, Manifest], None] = lambda before, after: None,
        installation: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._store = queue, store
        self._observer, self._executor, self._reporter = observer, executor, reporter
        self._metrics, self._scrape_interval, self._told = metrics, scrape_interval, told
        self._now, self._monotonic = now, monotonic
        self._best_effort, self._overlap = BestEffort(), Overlap(installation, monotonic)
        self._deletions: dict[Key, str] = {}  # what was told of runs that are being deleted
        self._failing_since: dict[Key, float] = {}  # the first of the passes that failed in a row
        self._refused: set[Key] = set()  # what the API server has refused last, which makes nothing known less true

    async def handle(self, key: Key) -> None:
        """Reconcile a run. Never raises but on cancellation: an error means a later try."""
        started = self._monotonic()
        with about(key):
            try:
                async with asyncio.timeout(_LIMIT_SECONDS):
                    wait = await self._reconcile(key)
            except (ConflictError, NotFoundError, NamespaceTerminatingError, NotYetError) as error:
                logger.debug("has moved on: %s", error)
                self._retry(key, "moved-on")
                await self._report_delay(key, started, error)
            except (TransientError, TimeoutError) as error:
                delay = self._retry(key, "transient")
                logger.warning("trying again in %.1f s: %s", delay, _words(error))
                await self._report_delay(key, started, error)
            except KubeError as error:
                delay = self._retry(key, "refused")
                logger.error("trying again in %.1f s: %s", delay, error)
                await self._report_error(key, error)
            except Exception as error:
                delay = self._retry(key, "bug")
                logger.exception("trying again in %.1f s: the operator failed", delay)
                await self._report_error(key, error)
            else:
                self._failing_since.pop(key, None)
                if wait is not None:
                    self._queue.add_after(key, wait)
        self._metrics.reconciled(self._monotonic() - started)

    async def _reconcile(self, key: Key) -> float | None:
        """Make one pass; return the seconds until the next one, None for not before something happens."""
        live = self._queue.failures(key) > 0 and key not in self._refused  # what was known has not helped
        self._refused.discard(key)
        manifest = None if self._store.is_over(key) else await self._observer.manifest(key, live=live)
        if manifest is None:
            self._queue.forget(key)
            self._deletions.pop(key, None)
            return None
        if "deletionTimestamp" in manifest["metadata"]:
            return await self._see_off(key, manifest)
        try:
            observation = await self._observer.observe(manifest, self._now(), live=live)
        except InvalidJobError as error:
            await self._report(manifest, plan.invalid_spec(manifest, str(error), self._now()))
            self._queue.forget(key)
            return None

        now = self._now()
        decision = plan.decide(observation.observed, now)
        while decision.look is not None:
            observation = await self._observer.look(observation, decision.look)
            decision = plan.decide(observation.observed, now)
        if any(isinstance(action, _FINAL) for action in decision.actions):
            await self._observer.confirm(observation)
        try:
            begun = await self._execute(observation, decision)
        except ObstacleError as error:
            # Nothing of the plan's status has come true: say what stands in the way instead.
            blocked = plan.decide(replace(observation.observed, obstacle=error.obstacle), self._now())
            await self._report(manifest, blocked)
            self._refused.add(key)
            delay = self._retry(key, "obstacle")
            logger.info("trying again in %.1f s: %s", delay, error)
            return None
        if begun is not None:  # tell it with the rest: a status of its own would be another write
            decision = plan.decide(replace(observation.observed, configuration=begun), now)
        overlaps = self._overlap.events(observation.observed.children, now)
        told = await self._report(manifest, replace(decision, events=(*decision.events, *overlaps)))
        self._queue.forget(key)
        wait = self._next_look(decision, told=told)
        if wait is None and "completionTime" in (manifest.get("status") or {}):
            self._store.finish(manifest)
        return wait

    async def _see_off(self, key: Key, manifest: Manifest) -> float | None:
        """Say what holds a run that is being deleted; it is none of ours to do anything else for it."""
        decision = plan.deletion(manifest, *await self._observer.left(manifest), self._now())
        words = decision.events[0].message if decision.events else ""
        if words == self._deletions.get(key, ""):
            decision = replace(decision, status=None, events=())
        try:
            await self._report(manifest, decision)
        except InvalidError as error:
            logger.warning("the status of a run that is being deleted is refused: %s", error)
            await self._reporter.emit(manifest, decision.events)
        self._deletions[key] = words
        self._queue.forget(key)
        return decision.requeue_after

    async def _execute(self, observation: Observation, decision: plan.Plan) -> str | None:
        """Carry out the actions; return the digest of what the run has begun with if one of them has told it."""
        begun, job = None, observation.observed.job
        try:
            for action in decision.actions:
                begun = await self._executor.execute(job, action) or begun
                logger.info("%s", _message(action), extra={"stage": getattr(action, "stage", None)})
        finally:
            self._executor.end_pass(job)
        return begun

    def _next_look(self, decision: plan.Plan, *, told: bool) -> float | None:
        """Return the seconds until the next pass; a plan that asks for none is followed by a look at what it did."""
        if decision.poll:
            # Spread, so that runs that started together are not scraped together for ever.
            poll = self._scrape_interval * random.uniform(0.9, 1.1)  # noqa: S311
            return poll if decision.requeue_after is None else min(poll, decision.requeue_after)
        if decision.requeue_after is None and (told or decision.actions):
            return _SETTLE_SECONDS
        return decision.requeue_after

    async def _report(self, manifest: Manifest, decision: plan.Plan) -> bool:
        """Write the status and the events; return whether the status is a new one."""
        told = decision.status is not None and await self._reporter.write_status(manifest, decision.status)
        if told and decision.status is not None:
            self._told(manifest, decision.status)
        for event in decision.events:
            level = logging.WARNING if event.type == "Warning" else logging.INFO
            logger.log(level, "%s: %s", event.reason, event.message)
        await self._reporter.emit(manifest, decision.events)
        return told

    async def _report_error(self, key: Key, error: Exception) -> None:
        """Tell the user of an error that nobody foresaw; one that has passed by the next try is not worth it."""
        if self._queue.failures(key) > 1:
            await self._tell(key, lambda manifest: plan.operator_error(manifest, error, self._now()))

    async def _report_delay(self, key: Key, started: float, error: Exception) -> None:
        """Tell the user of what mostly passes by itself, once it has not for a while."""
        since = self._failing_since.setdefault(key, started)
        # Nothing can be told, or done, in a namespace that goes away.
        if self._monotonic() - since < _PATIENCE_SECONDS or isinstance(error, NamespaceTerminatingError):
            return
        tell = plan.waiting_for_deletion if isinstance(error, NotYetError) else plan.api_server_error
        await self._tell(key, lambda manifest: tell(manifest, _words(error), self._now()))

    async def _tell(self, key: Key, words: Callable[[Manifest], plan.Plan]) -> None:
        async def tell() -> None:
            manifest = await self._observer.manifest(key, live=True)
            if manifest is None or "deletionTimestamp" in manifest["metadata"]:
                return
            decision = words(manifest)
            try:
                await self._report(manifest, decision)
            except KubeError:
                await self._reporter.emit(manifest, decision.events)  # what refuses the status may let events pass
                raise

        await self._best_effort.attempt("a condition that tells of an error", tell(), None)

    def _retry(self, key: Key, kind: str) -> float:
        self._metrics.failed(kind)
        return self._queue.add_rate_limited(key)


def _words(error: Exception) -> str:
    return str(error) or "the pass took too long"


def _message(action: Action) -> str:
    """Return an action for the log: CreateJob stage=train attempt=1."""
    return " ".join([type(action).__name__, *(f"{f.name}={getattr(action, f.name)}" for f in fields(action))])
