"""`AsyncClient` and `AsyncRun`: the same methods to await. Each call runs in a thread (ADR 0171)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from qwensft.api.v1alpha1 import Phase, QwenSFTJob, Stage, Status
from qwensft.client.client import Client
from qwensft.client.logs import LogLine
from qwensft.client.reading import Document
from qwensft.client.run import Run
from qwensft.explain import Explanation

T = TypeVar("T")


class AsyncRun:
    """One run; see `Run`."""

    def __init__(self, run: Run) -> None:
        self._run, self.name = run, run.name

    async def job(self) -> QwenSFTJob:
        """Return the QwenSFTJob as it is now."""
        return await asyncio.to_thread(lambda: self._run.job)

    async def status(self) -> Status:
        """Return its status as it is now."""
        return await asyncio.to_thread(lambda: self._run.status)

    async def wait(self, *, progress: bool = False, timeout: float | None = None) -> AsyncRun:  # noqa: ASYNC109
        """See `Run.wait`. Who cancels it stops waiting at once; its thread ends with the next change of the run."""
        async for _ in _each(lambda: self._run.waiting(progress=progress, timeout=timeout)):
            pass
        return self

    def logs(
        self,
        *,
        stage: Stage | str | None = None,
        rank: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLine]:
        """See `Run.logs`."""
        return _each(lambda: self._run.logs(stage=stage, rank=rank, attempt=attempt, follow=follow, tail=tail))

    async def metrics(self) -> Any:
        """See `Run.metrics`."""
        return await asyncio.to_thread(self._run.metrics)

    async def preview(self) -> str:
        """See `Run.preview`."""
        return await asyncio.to_thread(self._run.preview)

    async def report(self) -> str:
        """See `Run.report`."""
        return await asyncio.to_thread(self._run.report)

    async def why(self) -> Explanation:
        """See `Run.why`."""
        return await asyncio.to_thread(self._run.why)

    async def suspend(self) -> AsyncRun:
        """See `Run.suspend`."""
        await asyncio.to_thread(self._run.suspend)
        return self

    async def resume(self) -> AsyncRun:
        """See `Run.resume`."""
        await asyncio.to_thread(self._run.resume)
        return self

    async def retry(self) -> AsyncRun:
        """See `Run.retry`."""
        await asyncio.to_thread(self._run.retry)
        return self

    async def delete(self) -> None:
        """See `Run.delete`."""
        await asyncio.to_thread(self._run.delete)


class AsyncClient:
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
        self._client = Client(namespace=namespace, context=context, kubeconfig=kubeconfig, image=image)

    @property
    def namespace(self) -> str:
        """The namespace that all methods are about."""
        return self._client.namespace

    async def train(self, name: str | None = None, **arguments: Any) -> AsyncRun:
        """See `Client.train`."""
        return AsyncRun(await asyncio.to_thread(self._client.train, name, **arguments))

    async def run(self, name: str) -> AsyncRun:
        """See `Client.run`."""
        return AsyncRun(await asyncio.to_thread(self._client.run, name))

    async def get_job(self, name: str) -> QwenSFTJob:
        """See `Client.get_job`."""
        return await asyncio.to_thread(self._client.get_job, name)

    async def list_jobs(self, *, label_selector: str = "", all_namespaces: bool = False) -> list[QwenSFTJob]:
        """See `Client.list_jobs`."""
        return await asyncio.to_thread(
            self._client.list_jobs, label_selector=label_selector, all_namespaces=all_namespaces
        )

    async def create_job(self, job: QwenSFTJob | Document, *, dry_run: bool = False) -> QwenSFTJob:
        """See `Client.create_job`."""
        return await asyncio.to_thread(self._client.create_job, job, dry_run=dry_run)

    async def apply_job(self, job: QwenSFTJob | Document, *, force: bool = False) -> QwenSFTJob:
        """See `Client.apply_job`."""
        return await asyncio.to_thread(self._client.apply_job, job, force=force)

    async def suspend_job(self, name: str) -> QwenSFTJob:
        """See `Client.suspend_job`."""
        return await asyncio.to_thread(self._client.suspend_job, name)

    async def resume_job(self, name: str) -> QwenSFTJob:
        """See `Client.resume_job`."""
        return await asyncio.to_thread(self._client.resume_job, name)

    async def retry_job(self, name: str) -> QwenSFTJob:
        """See `Client.retry_job`."""
        return await asyncio.to_thread(self._client.retry_job, name)

    async def delete_job(self, name: str) -> None:
        """See `Client.delete_job`."""
        await asyncio.to_thread(self._client.delete_job, name)

    def watch_job(self, name: str, *, timeout: float | None = None) -> AsyncIterator[QwenSFTJob]:
        """See `Client.watch_job`."""
        return _each(lambda: self._client.watch_job(name, timeout=timeout))

    async def wait_for_job_status(
        self,
        name: str,
        status: Collection[str] = frozenset({Phase.SUCCEEDED}),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - what is waited for goes on without the client
    ) -> QwenSFTJob:
        """See `Client.wait_for_job_status`."""
        return [job async for job in _each(lambda: self._client.waiting(name, status, timeout=timeout))][-1]

    def get_job_logs(
        self,
        name: str,
        *,
        stage: Stage | str | None = None,
        rank: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLine]:
        """See `Client.get_job_logs`."""
        return _each(
            lambda: self._client.get_job_logs(name, stage=stage, rank=rank, attempt=attempt, follow=follow, tail=tail)
        )

    async def explain_job(self, name: str) -> Explanation:
        """See `Client.explain_job`."""
        return await asyncio.to_thread(self._client.explain_job, name)


async def _each(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Yield what an iterator yields, each item waited for in a thread."""
    end = object()
    iterator = await asyncio.to_thread(start)
    try:
        while (item := await asyncio.to_thread(next, iterator, end)) is not end:
            yield cast("T", item)
    finally:
        # While a thread waits within it, it cannot be closed: it is when that has its item, and nothing refers to it.
        with suppress(ValueError):
            getattr(iterator, "close", lambda: None)()
