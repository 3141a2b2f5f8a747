"""Reads, right before an attempt may start, what else of the run's name has not ended; `plan.leftovers` judges it.

Live, since a start cannot be taken back. Pods are asked for by either of two labels, of which somebody may have taken
one off; the API server leaves out those that have ended, so that mostly there is nothing to transfer.
ADR 0098 says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from qwensft.api.v1alpha1 import LABEL_JOB
from qwensft_operator import plan
from qwensft_operator.plan.leftovers import LABEL_JOB_NAME, job_names, leftovers, unread_jobs
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Leftover, PodView
from qwensft_operator.runtime.kube import JOBS, PODS, Kube, Manifest, NotFoundError

_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_MOST_VIEWED = 4  # pods that are read as a whole, those first that should have been gone first
_MOST_JOBS = 8


async def read_leftovers(kube: Kube, run: Run, jobs: list[Manifest]) -> tuple[Leftover, ...]:
    """Return what is left of other attempts and of earlier runs of the name.

    Args:
        kube: The API server.
        run: The run, with its children.
        jobs: All Jobs with the run's name on their label.

    Raises:
        KubeError: A read failed.
    """
    namespace = run.job.metadata.namespace
    selectors = (f"{LABEL_JOB}={run.job.metadata.name}", f"{LABEL_JOB_NAME} in ({','.join(job_names(run))})")
    lists = await asyncio.gather(
        *(
            kube.list(PODS, namespace, label_selector=selector, field_selector=_ALIVE, metadata_only=True)
            for selector in selectors
        )
    )
    pods = {pod["metadata"]["uid"]: pod for found in lists for pod in found}.values()
    names = unread_jobs(run, pods, jobs)[:_MOST_JOBS]
    more = [job for job in await asyncio.gather(*(_job(kube, namespace, name) for name in names)) if job is not None]
    by_uid = {job["metadata"]["uid"]: job for job in (*jobs, *more)}
    return leftovers(run, pods, by_uid.values(), await _views(kube, namespace, pods))


async def _views(kube: Kube, namespace: str, pods: Iterable[Manifest]) -> dict[str, PodView]:
    overdue_first = sorted(pods, key=lambda pod: pod["metadata"].get("deletionTimestamp", "~"))
    names = [pod["metadata"]["name"] for pod in overdue_first[:_MOST_VIEWED]]
    found = await asyncio.gather(
        *(kube.list(PODS, namespace, field_selector=f"metadata.name={name}") for name in names)
    )
    return {view.name: view for pods in found for view in map(plan.pod_view, pods)}


async def _job(kube: Kube, namespace: str, name: str) -> Manifest | None:
    try:
        return await kube.get(JOBS, namespace, name)
    except NotFoundError:
        return None
