"""Leader election on a Lease: only the holder acts.

Our own, because `kubernetes.aio.leaderelection` writes local time as UTC, lets a hanging request outlive its deadline,
and does not release the Lease on exit. The protocol is client-go's; ADR 0042 has the details.
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
    """A candidate for the Lease.

    Others take over once they have seen no renewal for `duration` seconds by their own clocks, so the holder gives up
    after two thirds of that: no two lead at a time, whatever the clocks of their nodes say.
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
        self._retry = duration / 5
        self._deadline = duration * 2 / 3
        self._seen: tuple[tuple[Any, ...], float] | None = None  # the holder's last sign of life, and when we saw it
        self._renewed = float("-inf")  # when the request was sent that made or kept us the holder
        self.leading = False

    async def acquire(self) -> None:
        """Return once this candidate holds the Lease."""
        while not await self._try():  # noqa: ASYNC110 - it asks a server, there is no event to wait for
            await asyncio.sleep(self._retry * random.uniform(1, 1.2))  # noqa: S311 - spreads candidates
        self.leading = True
        logger.info("leading: holding Lease %s/%s as %s", self._namespace, self._name, self._identity)

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaderLostError: Another holds the Lease, or it was not renewed for two thirds of its duration.
        """
        while True:
            await asyncio.sleep(self._retry)
            attempt = self._monotonic()
            try:
                async with asyncio.timeout(max(0.0, self._renewed + self._deadline - attempt)):
                    held = await self._acquire_or_renew()
            except KubeError as error:
                # A conflict is no loss: a write of ours that seemed to time out may have landed.
                logger.warning("Lease %s/%s was not renewed: %s", self._namespace, self._name, error)
            except TimeoutError:
                logger.warning("Lease %s/%s was not renewed: no answer in time", self._namespace, self._name)
            else:
                self._renewed = attempt if held else float("-inf")
            if self._monotonic() - self._renewed > self._deadline:
                self.leading = False
                raise LeaderLostError(f"Lease {self._namespace}/{self._name} is lost")

    async def release(self) -> None:
        """Let the next candidate in at once, also if `acquire` was cancelled. Failing to is harmless: it expires."""
        self.leading = False
        try:
            async with asyncio.timeout(self._retry):
                lease = await self._kube.get(LEASES, self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await self._kube.replace(LEASES, self._namespace, lease)
        except NotFoundError:
            return
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease was not released: %s", error)

    async def _try(self) -> bool:
        self._renewed = self._monotonic()
        try:
            # What others go by is when the request was carried out: an answer that comes later is worth nothing.
            async with asyncio.timeout(self._deadline):
                return await self._acquire_or_renew()
        except (KubeError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            logger.info("Lease %s/%s is not to be had: %s", self._namespace, self._name, problem)
            return False

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self._kube.get(LEASES, self._namespace, self._name)
        except NotFoundError:
            meta = {"name": self._name, "namespace": self._namespace}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
            lease["spec"] = self._spec({})
            await self._kube.create(LEASES, self._namespace, lease)
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._expired(spec):
            return False
        lease["spec"] = self._spec(spec)
        # replace carries the resourceVersion: of two candidates, one gets a conflict
        await self._kube.replace(LEASES, self._namespace, lease)
        return True

    def _expired(self, spec: Manifest) -> bool:
        # Judged by when WE saw the record change, not by its timestamps: clocks of nodes differ.
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("acquireTime"))
        now = self._monotonic()
        if self._seen is None or self._seen[0] != record:
            self._seen = (record, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or self._duration)

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
