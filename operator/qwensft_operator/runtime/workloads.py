"""What Kueue says of the Jobs that it holds: why they are not admitted, and the place they have in their queue.

It informs and decides nothing: without Kueue, or without its visibility API, a run learns less, and goes on.
ADR 0160 says why.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from qwensft_operator.plan.types import ChildJob, QueuePlace
from qwensft_operator.plan.views import queue_place
from qwensft_operator.runtime.answers import Answer, Answers
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import LOCAL_QUEUES, WORKLOADS, Kube, NotFoundError, Resource

_LABEL_OF_JOB = "kueue.x-k8s.io/job-uid"

_SECONDS = 29.0  # for which an answer is good
_KEPT_SECONDS = 10 * _SECONDS  # a namespace or a queue in which nothing waits any more is forgotten

T = TypeVar("T")


class Workloads:
    """Reads Workloads and places in queues, all of a namespace at once: a queue holds many runs together."""

    def __init__(self, kube: Kube, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._now = kube, now
        # By namespaces, then by the Jobs' UIDs; and by queues, then by the Workloads' names, from 1.
        self._workloads: Answers[str, dict[str, QueuePlace]] = Answers(dict, _KEPT_SECONDS, now)
        self._positions: Answers[tuple[str, str], dict[str, int]] = Answers(dict, _KEPT_SECONDS, now)
        self._best_effort = BestEffort()

    async def place(self, namespace: str, child: ChildJob) -> QueuePlace | None:
        """Return what Kueue says of a Job; None when it says nothing."""
        known = self._workloads.about(namespace)
        workloads = await self._recent(known, "Workloads of Kueue", partial(self._list, namespace))
        workload = workloads.get(child.uid)
        if workload is None or not child.queue:
            return workload
        queue = self._positions.about((namespace, child.queue))
        waiting = partial(self._pending, namespace, child.queue)
        positions = await self._recent(queue, "places in the queues of Kueue", waiting)
        return replace(workload, position=positions.get(workload.workload))

    async def _recent(
        self, answer: Answer[dict[str, T]], what: str, ask: Callable[[], Awaitable[dict[str, T]]]
    ) -> dict[str, T]:
        async with answer.turn:
            if self._now() >= answer.stale_at:
                answer.value = await self._best_effort.attempt(what, ask(), answer.value)
                answer.stale_at = self._now() + _SECONDS
        return answer.value

    async def _list(self, namespace: str) -> dict[str, QueuePlace]:
        for workloads in _versions(WORKLOADS):
            found: dict[str, QueuePlace] = {}
            with contextlib.suppress(NotFoundError):
                # A page at a time: each holds the templates of its pods, and those of what has ended stay, too.
                async for page in self._kube.pages(workloads, namespace, label_selector=_LABEL_OF_JOB):
                    found |= {one["metadata"]["labels"][_LABEL_OF_JOB]: queue_place(one) for one in page}
                return found
        return {}  # Kueue is not installed

    async def _pending(self, namespace: str, queue: str) -> dict[str, int]:
        for queues in _versions(LOCAL_QUEUES):
            with contextlib.suppress(NotFoundError):
                answer = await self._kube.get(queues, namespace, queue, subresource="pendingworkloads")
                items = answer.get("items") or ()
                return {one["metadata"]["name"]: int(one["positionInLocalQueue"]) + 1 for one in items}
        return {}  # no such queue, or Kueue's visibility API is not installed


def _versions(resource: Resource) -> tuple[Resource, Resource]:
    """The resource, and as Kueue before 0.15 serves it."""
    return resource, replace(resource, version="v1beta1")
