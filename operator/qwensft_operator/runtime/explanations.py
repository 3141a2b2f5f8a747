"""Events about what does not come up: asked for rarely, since Kubernetes repeats itself and only what lasts counts.

They inform and decide nothing: without them a run learns less, and goes on.
ADR 0049 says why. ADR 0096 says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import EVENTS, Kube, Manifest

_JOB_SECONDS = 14.0  # shorter than the time until a run that does not come up is looked at again
_OBJECT_SECONDS = 29.0
_PODS_ASKED = 2  # of a gang at once; the others have their turn later
_MOST_ANSWERS = 1000


@dataclass(frozen=True, slots=True)
class _Answer:
    asked_at: float
    events: list[Manifest]


class Explanations:
    """Reads events, and remembers them for a while by the UID that they are about."""

    def __init__(self, kube: Kube, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._now = kube, now
        self._answers: dict[str, _Answer] = {}
        self._best_effort = BestEffort()

    async def of_job(self, namespace: str, uid: str) -> list[Manifest]:
        """Return why the Job controller could not create pods."""
        return await self._ask(namespace, uid, "events of Jobs", _JOB_SECONDS, ",reason=FailedCreate")

    async def of_claim(self, namespace: str, claim: Manifest) -> list[Manifest]:
        """Return what Kubernetes says of a claim."""
        return await self._ask(namespace, claim["metadata"]["uid"], "events of claims", _OBJECT_SECONDS)

    async def of_pods(self, namespace: str, pods: Iterable[Manifest]) -> dict[str, list[Manifest]]:
        """Return what Kubernetes says of pods of a gang, by their UIDs: what holds up one mostly holds up others."""
        uids = sorted((pod["metadata"]["uid"] for pod in pods), key=self._asked_at)
        if uids and self._now() - self._asked_at(uids[-1]) > _OBJECT_SECONDS:
            for uid in uids[:_PODS_ASKED]:
                await self._ask(namespace, uid, "events of pods", 0)
        return {uid: self._answers[uid].events for uid in uids if uid in self._answers}

    def _asked_at(self, uid: str) -> float:
        return self._answers[uid].asked_at if uid in self._answers else float("-inf")

    async def _ask(self, namespace: str, uid: str, what: str, fresh: float, more: str = "") -> list[Manifest]:
        now = self._now()
        if now - self._asked_at(uid) <= fresh:
            return self._answers[uid].events
        listing = self._kube.list(EVENTS, namespace, field_selector=f"involvedObject.uid={uid}{more}")
        events = await self._best_effort.attempt(what, listing, [])
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers = dict(sorted(self._answers.items(), key=lambda a: a[1].asked_at)[_MOST_ANSWERS // 2 :])
        self._answers[uid] = _Answer(now, events)
        return events
