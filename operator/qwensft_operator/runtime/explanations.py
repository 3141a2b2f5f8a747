"""Events about what does not come up: asked for rarely, since Kubernetes repeats itself and only what lasts counts.

They inform and decide nothing: without them a run learns less, and goes on.
ADR 0049 says why. ADR 0096 says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qwensft_operator.runtime.answers import Answers
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import EVENTS, Kube, Manifest

_JOB_SECONDS = 14.0  # shorter than the time until a run that does not come up is looked at again
_OBJECT_SECONDS = 29.0
_KEPT_SECONDS = 10 * _OBJECT_SECONDS  # a namespace of which nobody asks any more is forgotten
_PODS_ASKED = 2  # of a gang at once; the others have their turn later
_MOST_ANSWERS = 1000


@dataclass(frozen=True, slots=True)
class _Answer:
    asked_at: float
    events: list[Manifest]


class Explanations:
    """Reads events, and remembers them for a while.

    The API server looks through all events of a namespace for each question. So it is asked about all Jobs and all
    claims at once: a quota or a storage class holds up hundreds of runs together.
    """

    def __init__(self, kube: Kube, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._now = kube, now
        self._answers: dict[str, _Answer] = {}  # by the UIDs of pods
        # Of all objects of a kind in a namespace, by their UIDs.
        self._kinds: Answers[tuple[str, str], dict[str, list[Manifest]]] = Answers(dict, _KEPT_SECONDS, now)
        self._best_effort = BestEffort()

    async def of_job(self, namespace: str, uid: str) -> list[Manifest]:
        """Return why the Job controller could not create pods."""
        selector = "involvedObject.kind=Job,reason=FailedCreate"
        return await self._of_kind(namespace, selector, uid, "events of Jobs", _JOB_SECONDS)

    async def of_claim(self, namespace: str, claim: Manifest) -> list[Manifest]:
        """Return what Kubernetes says of a claim."""
        selector, uid = "involvedObject.kind=PersistentVolumeClaim", claim["metadata"]["uid"]
        return await self._of_kind(namespace, selector, uid, "events of claims", _OBJECT_SECONDS)

    async def of_pods(self, namespace: str, pods: Iterable[Manifest]) -> dict[str, list[Manifest]]:
        """Return what Kubernetes says of pods of a gang, by their UIDs: what holds up one mostly holds up others."""
        uids = sorted((pod["metadata"]["uid"] for pod in pods), key=self._asked_at)
        if uids and self._now() - self._asked_at(uids[-1]) > _OBJECT_SECONDS:
            for uid in uids[:_PODS_ASKED]:
                await self._of_pod(namespace, uid)
        return {uid: self._answers[uid].events for uid in uids if uid in self._answers}

    def _asked_at(self, uid: str) -> float:
        return self._answers[uid].asked_at if uid in self._answers else float("-inf")

    async def _of_pod(self, namespace: str, uid: str) -> None:
        listing = self._kube.list(EVENTS, namespace, field_selector=f"involvedObject.uid={uid}")
        events = await self._best_effort.attempt("events of pods", listing, [])
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers = dict(sorted(self._answers.items(), key=lambda a: a[1].asked_at)[_MOST_ANSWERS // 2 :])
        self._answers[uid] = _Answer(self._now(), events)

    async def _of_kind(self, namespace: str, selector: str, uid: str, what: str, fresh: float) -> list[Manifest]:
        kind = self._kinds.about((namespace, selector))
        async with kind.turn:
            if self._now() >= kind.stale_at:
                listing = self._kube.list(EVENTS, namespace, field_selector=selector)
                found: dict[str, list[Manifest]] = {}
                for event in await self._best_effort.attempt(what, listing, []):
                    found.setdefault((event.get("involvedObject") or {}).get("uid", ""), []).append(event)
                kind.value, kind.stale_at = found, self._now() + fresh
        return kind.value.get(uid, [])
