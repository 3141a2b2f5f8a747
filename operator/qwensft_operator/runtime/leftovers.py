"""Reads, right before an attempt starts, what else of the run's name has not ended; `plan.leftovers` judges it.

Live, since a start cannot be taken back. Pods are asked for by either of two labels, of which somebody may have taken
one off; the API server leaves out those that have ended, so that mostly there is nothing to transfer. A run that waits
for what was found goes by its watches, which tell of all that has both labels.
ADR 0098 says why. ADR 0190 says why.
"""

from __future__ import annotations

import asyncio
import itertools
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


async def read_leftovers(kube: Kube, run: Run, jobs: Iterable[Manifest]) -> tuple[Leftover, ...]:
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
    names = [pod["metadata"]["name"] for pod in _viewed(pods)]
    whole = await asyncio.gather(
        *(kube.list(PODS, namespace, field_selector=f"metadata.name={name}") for name in names)
    )
    jobs = await _with(kube, run, unread_jobs(run, pods, jobs), jobs)
    return leftovers(run, pods, jobs, _views(pod for found in whole for pod in found))


async def known_leftovers(
    kube: Kube, run: Run, jobs: Iterable[Manifest], pods: Iterable[Manifest]
) -> tuple[Leftover, ...]:
    """Return the same, as far as watches tell of it; only Jobs of pods that no watch tells of are read.

    Args:
        kube: The API server.
        run: The run, with its children.
        jobs: All Jobs with the run's name on their label.
        pods: All pods with the run's name on their label, those that have ended included.

    Raises:
        KubeError: A read failed.
    """
    alive = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    lost = plan.needs_of(run).lost_job  # has been looked for
    jobs = await _with(kube, run, (name for name in unread_jobs(run, alive, jobs) if name != lost), jobs)
    return leftovers(run, alive, jobs, _views(_viewed(alive)))


def _viewed(pods: Iterable[Manifest]) -> list[Manifest]:
    return sorted(pods, key=lambda pod: pod["metadata"].get("deletionTimestamp", "~"))[:_MOST_VIEWED]


def _views(pods: Iterable[Manifest]) -> dict[str, PodView]:
    return {view.name: view for view in map(plan.pod_view, pods)}


async def _with(kube: Kube, run: Run, names: Iterable[str], jobs: Iterable[Manifest]) -> Iterable[Manifest]:
    """Return the Jobs, and those of the names."""
    reading = (_job(kube, run.job.metadata.namespace, name) for name in itertools.islice(names, _MOST_JOBS))
    found = await asyncio.gather(*reading)
    return {job["metadata"]["uid"]: job for job in (*jobs, *found) if job is not None}.values()


async def _job(kube: Kube, namespace: str, name: str) -> Manifest | None:
    try:
        return await kube.get(JOBS, namespace, name)
    except NotFoundError:
        return None
