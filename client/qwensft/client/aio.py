"""`AsyncClient` and `AsyncRun`: the same methods to await, with the same arguments (ADR 0171)."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from qwensft.api.v1alpha1 import Phase, QwenSFTJob, Status
from qwensft.client.client import Client
from qwensft.client.run import Run
from qwensft.client.threads import Awaited, awaited, iterated

P = ParamSpec("P")
B = TypeVar("B")


def _handle(
    method: Callable[Concatenate[B, P], Run],
) -> Callable[Concatenate[Awaited[B], P], Coroutine[Any, Any, AsyncRun]]:
    """Return a method that returns a run as one to await."""
    call = awaited(method)

    @functools.wraps(method)
    async def handle(self: Awaited[B], /, *args: P.args, **kwargs: P.kwargs) -> AsyncRun:
        return AsyncRun(await call(self, *args, **kwargs))

    return handle


def _job(run: Run) -> QwenSFTJob:
    """Return the QwenSFTJob as it is now."""
    return run.job


def _status(run: Run) -> Status:
    """Return its status as it is now."""
    return run.status


class AsyncRun(Awaited[Run]):
    """One run; see `Run`."""

    @property
    def name(self) -> str:
        """Its name."""
        return self._blocking.name

    job = awaited(_job)
    status = awaited(_status)
    waiting = iterated(Run.waiting)
    logs = iterated(Run.logs)
    metrics = awaited(Run.metrics)
    preview = awaited(Run.preview)
    report = awaited(Run.report)
    why = awaited(Run.why)
    suspend = _handle(Run.suspend)
    resume = _handle(Run.resume)
    retry = _handle(Run.retry)
    delete = awaited(Run.delete)

    async def wait(self, *, progress: bool = False, timeout: float | None = None) -> AsyncRun:  # noqa: ASYNC109
        """See `Run.wait`. Who cancels it stops waiting at once; its thread ends with the next change of the run."""
        async for _ in self.waiting(progress=progress, timeout=timeout):
            pass
        return self


class AsyncClient(Awaited[Client]):
    """Runs of one namespace; see `Client`, whose methods and arguments these are."""

    def __init__(
        self,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | Path | None = None,
        image: str | None = None,
    ) -> None:
        """See `Client`."""
        super().__init__(Client(namespace=namespace, context=context, kubeconfig=kubeconfig, image=image))

    @property
    def namespace(self) -> str:
        """The namespace that all methods are about."""
        return self._blocking.namespace

    train = _handle(Client.train)
    run = _handle(Client.run)
    get_job = awaited(Client.get_job)
    list_jobs = awaited(Client.list_jobs)
    create_job = awaited(Client.create_job)
    apply_job = awaited(Client.apply_job)
    suspend_job = awaited(Client.suspend_job)
    resume_job = awaited(Client.resume_job)
    retry_job = awaited(Client.retry_job)
    delete_job = awaited(Client.delete_job)
    watch_job = iterated(Client.watch_job)
    waiting = iterated(Client.waiting)
    get_job_logs = iterated(Client.get_job_logs)
    explain_job = awaited(Client.explain_job)
    image_for = awaited(Client.image_for)

    async def wait_for_job_status(
        self,
        name: str,
        status: Collection[str] = frozenset({Phase.SUCCEEDED}),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - what is waited for goes on without the client
    ) -> QwenSFTJob:
        """See `Client.wait_for_job_status`."""
        jobs: deque[QwenSFTJob] = deque(maxlen=1)
        async for job in self.waiting(name, status, timeout=timeout):
            jobs.append(job)
        return jobs.pop()
