"""Leader election on a Lease: only the holder acts.

Our own, because `kubernetes.aio.leaderelection` writes local time as UTC, lets a hanging request outlive its deadline,
and does not release the Lease on exit. The protocol is client-go's; ADR 0042 has the details, ADR 0105 the times.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from qwensft_operator.runtime.kube import LEASES, Kube, KubeError, Manifest, NotFoundError

logger = logging.getLogger(__name__)


class LeaderLostError(Exception):
    """The Lease could not be renewed in time: another may lead by now, so this process must stop acting at once."""


class Leader:
    """A candidate for the Lease. It may acquire it again after it has lost it.

    Others take over once they have seen no renewal for `duration` seconds by their own clocks, so the holder gives up
    after two thirds of that, counted from when the request was sent that made or kept it the holder: no two lead at a
    time, whatever the clocks of their nodes say, and however late answers come.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._namespace, self._name, self._identity = kube, namespace, name, identity
        self._duration, self._monotonic = duration, monotonic
        self._renewal = duration / 5
        self._retry = duration / 15
        self._poll = duration / 10  # how often a candidate asks: a Lease that was released is taken within two seconds
        self._deadline = duration * 2 / 3
        self._seen: tuple[tuple[Any, ...], float] | None = None  # the holder's last sign of life, and when we saw it
        self._expiry = float("inf")  # when that will be too old
        self._stored: Manifest | None = None  # the Lease as our last write left it
        self._renewed = float("-inf")  # when that write was sent
        self.leading = False

    async def acquire(self) -> None:
        """Return once this candidate holds the Lease."""
        while not await self._try():
            left = self._expiry - self._monotonic()
            pause = min(self._poll, left + self._poll / 10) if left > 0 else self._poll
            await asyncio.sleep(pause * random.uniform(1, 1.2))  # noqa: S311 - spreads candidates
        self.leading = True
        logger.info("leading: holding Lease %s/%s as %s", self._namespace, self._name, self._identity)

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaderLostError: Another holds the Lease, or it was not renewed for two thirds of its duration.
        """
        try:
            while True:
                await asyncio.sleep(self._renewed + self._renewal - self._monotonic())
                while not await self._renew():  # noqa: ASYNC110 - it asks a server
                    await asyncio.sleep(min(self._retry, self._left()))
        finally:
            self.leading = False

    async def release(self) -> None:
        """Let the next candidate in at once, also if `acquire` was cancelled. Failing to is harmless: it expires."""
        self.leading = False
        try:
            async with asyncio.timeout(self._renewal):
                lease = await self._kube.get(LEASES, self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await self._kube.replace(LEASES, self._namespace, lease)
        except NotFoundError:
            return
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease was not released: %s", error)

    async def _try(self) -> bool:
        """Take the Lease if it is free, expired or our own; return whether we hold it now."""
        try:
            lease = await self._read()
            spec = (lease or {}).get("spec") or {}
            if (spec.get("holderIdentity") or "") not in ("", self._identity) and not self._expired(spec):
                return False
            # What others go by is when the request was carried out: an answer that comes later is worth nothing.
            async with asyncio.timeout(self._deadline):
                await self._write(lease)
        except (KubeError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            logger.info("Lease %s/%s is not to be had: %s", self._namespace, self._name, problem)
            return False
        return True

    async def _renew(self) -> bool:
        """Try to renew the Lease; return whether that was done.

        Raises:
            LeaderLostError: It is too late for another try, or another has the Lease.
        """
        left = self._left()
        if left <= 0:
            raise LeaderLostError(f"Lease {self._namespace}/{self._name} was not renewed in time")
        known, self._stored = self._stored, None
        try:
            # An answer that does not come may be a connection that is dead: leave time for a try on another one.
            async with asyncio.timeout(left * 2 / 3 if left > self._retry else left):
                if known is None:  # a write of ours that failed, or seemed to, may have landed
                    known = await self._read()
                holder = ((known or {}).get("spec") or {}).get("holderIdentity")
                if known is not None and holder != self._identity:
                    raise LeaderLostError(f"Lease {self._namespace}/{self._name} is held by {holder or 'nobody'}")
                await self._write(known)
        except (KubeError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            logger.warning("Lease %s/%s was not renewed: %s", self._namespace, self._name, problem)
            return False
        return True

    def _left(self) -> float:
        """Seconds for which nobody else can have taken the Lease from us."""
        return self._renewed + self._deadline - self._monotonic()

    async def _read(self) -> Manifest | None:
        try:
            return await self._kube.get(LEASES, self._namespace, self._name)
        except NotFoundError:
            return None

    async def _write(self, lease: Manifest | None) -> None:
        """Make the Lease ours. The resourceVersion goes with it: of two candidates, one gets a conflict."""
        sent = self._monotonic()
        if lease is None:
            meta = {"name": self._name, "namespace": self._namespace}
            new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": self._spec({})}
            stored = await self._kube.create(LEASES, self._namespace, new)
        else:
            renewed = lease | {"spec": self._spec(lease.get("spec") or {})}
            stored = await self._kube.replace(LEASES, self._namespace, renewed)
        self._stored, self._renewed = stored, sent

    def _expired(self, spec: Manifest) -> bool:
        # Judged by when WE saw the record change, not by its timestamps: clocks of nodes differ.
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("acquireTime"))
        now = self._monotonic()
        if self._seen is None or self._seen[0] != record:
            self._seen = (record, now)
        self._expiry = self._seen[1] + float(spec.get("leaseDurationSeconds") or self._duration)
        return now > self._expiry

    def _spec(self, known: Manifest) -> Manifest:
        again = known.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": known.get("acquireTime") if again else _now(),
            "renewTime": _now(),
            "leaseTransitions": known.get("leaseTransitions", 0) + (0 if again or not known else 1),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
