"""Where a decision's facts come from: the store while its watch is open, the API server otherwise.

Live is read what no watch tells of, what cannot be taken back, and everything after a pass that has failed.
ADR 0095 says why.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

from qwensft.api.v1alpha1 import LABEL_JOB
from qwensft_operator import plan
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Leftover
from qwensft_operator.runtime.kinds import CHILDREN, KINDS, RUNS, Key, Kind
from qwensft_operator.runtime.kube import (
    CLAIMS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    ConflictError,
    Kube,
    Manifest,
    NotFoundError,
    Resource,
)
from qwensft_operator.runtime.leftovers import known_leftovers, read_leftovers
from qwensft_operator.runtime.store import Store

LABEL_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_FRESH_SECONDS = 14.0  # for what only explains: shorter than the time until the run is looked at again

Hears = Callable[[Resource, str], bool]
"""Whether the store knows all of a kind in a namespace."""


class Reader:
    """Reads objects. Those that it returns may be the store's own: they must not be changed."""

    def __init__(self, kube: Kube, store: Store, hears: Hears, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._store, self._hears, self._now = kube, store, hears, now
        self._claims: dict[tuple[str, str], tuple[float, Manifest]] = {}

    async def run(self, key: Key, *, live: bool) -> Manifest | None:
        """Return the QwenSFTJob, None when it does not exist; with its children forgotten, read these again, too."""
        if not live and self._hears(QWENSFTJOBS, key[0]) and self._store.is_complete(key):
            return self._store.get(QWENSFTJOBS, *key)
        manifest = await self.find(QWENSFTJOBS, *key)
        if manifest is not None:
            self._store.read(RUNS, manifest)
            if not self._store.is_complete(key):
                await self._recall(key)
        return manifest

    async def source_run(self, key: Key, *, live: bool) -> Manifest | None:
        """Return a QwenSFTJob for which another waits; None when it does not exist."""
        if not live and self._hears(QWENSFTJOBS, key[0]) and not self._store.is_over(key):
            return self._store.get(QWENSFTJOBS, *key)
        return await self.find(QWENSFTJOBS, *key)  # of one that is over only a key is kept

    def awaited_in_turn(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the names of the runs for which a QwenSFTJob waits, each for the next, as far as watches tell."""
        found: list[str] = []
        other: Manifest | None = manifest
        while other is not None and (name := plan.awaited_by(other)) is not None and name not in found:
            found.append(name)
            other = self._store.get(QWENSFTJOBS, manifest["metadata"]["namespace"], name)
        return tuple(found)

    async def confirm(self, manifest: Manifest) -> None:
        """Return if the QwenSFTJob still is as it was: asked before what cannot be taken back.

        Raises:
            ConflictError: It has changed.
            NotFoundError: It is gone.
        """
        meta = manifest["metadata"]
        current = await self._kube.get_metadata(QWENSFTJOBS, meta["namespace"], meta["name"])
        if current["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            raise ConflictError(409, "Conflict", f"{meta['name']} has changed since it was looked at")

    async def jobs(self, key: Key, *, live: bool) -> list[Manifest]:
        """Return the Jobs that carry the run's name."""
        if not live and self._hears(JOBS, key[0]):
            return self._store.children(JOBS, key)
        return await self._listed(JOBS, key[0], f"{LABEL_JOB}={key[1]}")

    async def pods(self, key: Key, job_uid: str, *, live: bool) -> list[Manifest]:
        """Return the pods of a child Job."""
        if not live and self._hears(PODS, key[0]):
            pods = self._store.children(PODS, key)
            return [pod for pod in pods if pod["metadata"]["labels"].get(LABEL_CONTROLLER_UID) == job_uid]
        return await self._listed(PODS, key[0], f"{LABEL_CONTROLLER_UID}={job_uid}")

    async def companion(self, resource: Resource, namespace: str, name: str, *, live: bool) -> Manifest | None:
        """Return the metadata of a Service or ConfigMap that the operator makes, None when it does not exist."""
        if not live and self._hears(resource, namespace):
            return self._store.get(resource, namespace, name)
        return await self._found(self._kube.get_metadata(resource, namespace, name))

    async def children(self, kind: Kind, key: Key) -> list[Manifest]:
        """Return the objects of a kind that carry the run's name, as far as watches tell of such."""
        if self._hears(kind.resource, key[0]):
            return self._store.children(kind.resource, key)
        selector = f"{kind.selector}={key[1]}"
        return await self._kube.list(kind.resource, key[0], label_selector=selector, metadata_only=kind.metadata_only)

    def known(self, resource: Resource, key: Key) -> list[Manifest]:
        """Return what watches tell of the run's objects of a kind, without a request: none while they do not."""
        return self._store.children(resource, key) if self._hears(resource, key[0]) else []

    async def claim(self, namespace: str, name: str, *, live: bool, ours: bool = False) -> Manifest | None:
        """Return a claim, None when it does not exist.

        Those that the operator did not make are in no store. With `ours` one that is in none is about to be made: if
        another has the name, making it tells.
        """
        hears = self._hears(CLAIMS, namespace)
        known = self._store.get(CLAIMS, namespace, name) if hears else None
        if known is not None or (hears and ours):
            return known
        self._claims = {n: c for n, c in self._claims.items() if self._now() - c[0] <= _FRESH_SECONDS}
        read = None if live else self._claims.get((namespace, name))
        if read is not None:
            return read[1]
        claim = await self.find(CLAIMS, namespace, name)
        if claim is None:  # not remembered: it may be made at any time, also by this operator
            self._claims.pop((namespace, name), None)
        else:
            self._claims[namespace, name] = self._now(), claim
        return claim

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Read an object; None when it does not exist."""
        return await self._found(self._kube.get(resource, namespace, name))

    @staticmethod
    async def _found(reading: Awaitable[Manifest]) -> Manifest | None:
        try:
            return await reading
        except NotFoundError:
            return None

    async def leftovers(self, run: Run, jobs: Iterable[Manifest]) -> tuple[Leftover, ...]:
        """Return what is left of other attempts and earlier runs, live: an attempt is about to start."""
        return await read_leftovers(self._kube, run, jobs)

    async def known_leftovers(self, run: Run, jobs: Iterable[Manifest]) -> tuple[Leftover, ...]:
        """Return what watches tell of these."""
        key = run.job.metadata.namespace, run.job.metadata.name
        return await known_leftovers(self._kube, run, jobs, self.known(PODS, key))

    async def _listed(self, resource: Resource, namespace: str, selector: str) -> list[Manifest]:
        found = await self._kube.list(resource, namespace, label_selector=selector)
        for manifest in found:
            self._store.read(KINDS[resource], manifest)
        return found

    async def _recall(self, key: Key) -> None:
        """Read what was forgotten at the end of a run that goes on."""
        for kind in CHILDREN:
            selector = f"{kind.selector}={key[1]}"
            found = await self._kube.list(
                kind.resource, key[0], label_selector=selector, metadata_only=kind.metadata_only
            )
            for manifest in found:
                self._store.read(kind, manifest)
        self._store.completed(key)
