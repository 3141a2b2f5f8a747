"""Reads everything that a decision about one run may depend on, live, and no more than it needs this time.

Watch caches are not consulted: they keep objects whose deletion they missed. What the facts mean is `plan`'s business.
ADR 0049 says why.

A run that has begun is read by its shape alone: a rule that is newer than its admission does not end it.
ADR 0091 says why.

What decides must be read: the run, its Jobs, pods and claims, and its companions' existence. What only informs (events,
nodes, figures) is read with best effort: without it a run learns less, and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_JOB_UID, InvalidJobError, QwenSFTJob, Stage, parse_job
from qwensft_operator import plan, render
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ChildJob, ClaimView, JobState, NodeView, Observed, PodView, Scrape
from qwensft_operator.plan.views import is_owned
from qwensft_operator.render.names import service_name
from qwensft_operator.runtime.begun import ANNOTATION_CONFIGURATION
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.execute import is_ours
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    SERVICES,
    Kube,
    Manifest,
    NotFoundError,
    Resource,
)
from qwensft_operator.runtime.leftovers import read_leftovers
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.scrape import PodAddresses, Scraper
from qwensft_operator.runtime.together import together

V = TypeVar("V", ClaimView, PodView)

Key = tuple[str, str]
"""Namespace and name of a QwenSFTJob."""

LABEL_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
LABEL_INDEX = "batch.kubernetes.io/job-completion-index"
_MOST_PODS_ASKED = 4  # of which the events are read in one pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """A run as observed, and the raw document that its status is compared with."""

    manifest: Manifest
    observed: Observed


class Observer:
    """Reads runs. Holds no state between calls but hints."""

    def __init__(self, kube: Kube, scraper: Scraper, addresses: PodAddresses, nodes: Nodes) -> None:
        self._kube, self._scraper, self._addresses, self._nodes = kube, scraper, addresses, nodes
        self._best_effort = BestEffort()

    async def manifest(self, key: Key) -> Manifest | None:
        """Read the QwenSFTJob; None when it does not exist or is being deleted (then nothing is left to do)."""
        namespace, name = key
        try:
            manifest = await self._kube.get(QWENSFTJOBS, namespace, name)
        except NotFoundError:
            return None
        return None if "deletionTimestamp" in manifest["metadata"] else manifest

    async def observe(self, manifest: Manifest) -> Observation:
        """Read what belongs to the QwenSFTJob.

        Raises:
            InvalidJobError: This version does not understand the stored document, or refuses what has not begun.
            KubeError: A read failed.
        """
        job = _stored_job(manifest)
        namespace, name = job.metadata.namespace, job.metadata.name
        jobs = await self._kube.list(JOBS, namespace, label_selector=f"{LABEL_JOB}={name}")
        children = tuple(c for j in jobs if (c := plan.child_job(j, job.metadata.uid)) is not None)
        run = Run(Observed(job=job, children=children))
        if run.current_stage is None:
            return Observation(manifest, run.observed)

        stage, attempt = run.current_stage, run.record(run.current_stage).attempt or 1
        needs = plan.needs_of(run)
        (service, config_map), claims, named, nodes, (pods, failures), scrape = await together(
            self._companions(run, stage, attempt),
            self._claims(namespace, needs.claims),
            self._named_config_maps(namespace, needs.config_maps),
            self._labelled_nodes(needs.node_label),
            self._pods(run, needs.pods),
            self._best_effort.attempt("figures", self._scrape(namespace, needs.figures), None),
        )
        own = None if claims is None else claims.get(job.workspace_claim)
        # A stranger's object of that name does not count: creating ours then tells of the conflict.
        if config_map is not None and not is_owned(config_map, job.metadata.uid):
            config_map = None
        observed = Observed(
            job=job,
            children=children,
            pods=pods,
            creation_failures=failures,
            service_exists=service is not None and is_ours(job, render.service(job), service),
            service_by_uid=service is None or LABEL_JOB_UID in (service["metadata"].get("labels") or {}),
            config_maps=frozenset([config_map["metadata"]["name"]] if config_map else []),
            configuration=_configuration(config_map),
            claim_exists=own is not None and _is_usable(job, own),
            claims=None if claims is None else await self._claim_views(namespace, claims),
            named_config_maps=named,
            nodes=nodes,
            scrape=scrape,
            leftovers=await read_leftovers(self._kube, run, jobs) if needs.leftovers else None,
        )
        return Observation(manifest, observed)

    async def _companions(self, run: Run, stage: Stage, attempt: int) -> tuple[Manifest | None, Manifest | None]:
        job, namespace = run.job, run.job.metadata.namespace
        return await together(
            self._find(SERVICES, namespace, service_name(job)) if stage is Stage.TRAIN else _nothing(),
            self._find(CONFIG_MAPS, namespace, run.child_name(stage, attempt)),
        )

    async def _claims(self, namespace: str, names: tuple[str, ...]) -> dict[str, Manifest] | None:
        """Read claims; those that do not exist are left out. None when there was nothing to read."""
        found = await together(*(self._find(CLAIMS, namespace, name) for name in names))
        return {claim["metadata"]["name"]: claim for claim in found if claim is not None} if names else None

    async def _named_config_maps(self, namespace: str, names: tuple[str, ...]) -> dict[str, frozenset[str]] | None:
        """Read the keys of ConfigMaps; those that do not exist are left out. None when there was nothing to read."""
        found: dict[str, frozenset[str]] = {}
        for name in names:  # one after the other: each may be a MiB
            config_map = await self._find(CONFIG_MAPS, namespace, name)
            if config_map is not None:
                found[name] = plan.config_map_keys(config_map)
        return found if names else None

    async def _claim_views(self, namespace: str, claims: dict[str, Manifest]) -> tuple[ClaimView, ...]:
        return tuple(await together(*(self._claim_view(namespace, claim) for claim in claims.values())))

    async def _claim_view(self, namespace: str, claim: Manifest) -> ClaimView:
        view = plan.claim_view(claim)
        if view.phase != "Pending":
            return view
        explained = self._with_events(namespace, claim, plan.claim_view)
        return await self._best_effort.attempt("events of claims", explained, view)

    async def _labelled_nodes(self, label: str | None) -> tuple[NodeView, ...]:
        return () if label is None else await self._nodes.labelled(label)

    async def _pods(self, run: Run, child: ChildJob | None) -> tuple[tuple[PodView, ...], tuple[str, ...]]:
        if child is None:
            return (), ()
        namespace = run.job.metadata.namespace
        selector = f"{LABEL_CONTROLLER_UID}={child.uid}"
        manifests = await self._kube.list(PODS, namespace, label_selector=selector)
        pods = await self._pod_views(namespace, manifests)
        if len(pods) >= run.pods_of(child.stage) or child.state is not JobState.RUNNING or child.deleting:
            return pods, ()
        # A quota or Pod Security denial stands nowhere but in the Job controller's events.
        failures = self._creation_failures(namespace, child)
        return pods, await self._best_effort.attempt("events of Jobs", failures, ())

    async def _creation_failures(self, namespace: str, child: ChildJob) -> tuple[str, ...]:
        fields = f"involvedObject.uid={child.uid},reason=FailedCreate"
        return plan.creation_failures(await self._kube.list(EVENTS, namespace, field_selector=fields))

    async def _pod_views(self, namespace: str, manifests: list[Manifest]) -> tuple[PodView, ...]:
        views = {pod["metadata"]["name"]: plan.pod_view(pod) for pod in manifests}
        # What holds up one pod of a gang mostly holds up the others, too.
        asked = [pod for pod in manifests if plan.needs_events(pod)][:_MOST_PODS_ASKED]
        explained = (
            self._best_effort.attempt(
                "events of pods", self._with_events(namespace, pod, plan.pod_view), views[pod["metadata"]["name"]]
            )
            for pod in asked
        )
        views |= {view.name: view for view in await together(*explained)}
        return tuple(views.values())

    async def _with_events(
        self, namespace: str, about: Manifest, view: Callable[[Manifest, Iterable[Manifest]], V]
    ) -> V:
        fields = f"involvedObject.uid={about['metadata']['uid']}"
        return view(about, await self._kube.list(EVENTS, namespace, field_selector=fields))

    async def _scrape(self, namespace: str, child: ChildJob | None) -> Scrape | None:
        if child is None:
            return None
        address = self._addresses.get(child.uid) or await self._find_address(namespace, child)
        if address is None:
            return None
        scrape = await self._scraper.scrape(address)
        if scrape is None:
            self._addresses.drop(child.uid)  # the next try asks the API server
        return scrape

    async def _find_address(self, namespace: str, child: ChildJob) -> str | None:
        selector = f"{LABEL_CONTROLLER_UID}={child.uid}"
        if child.stage is Stage.TRAIN:  # of the others, no pod has an index
            selector += f",{LABEL_INDEX}=0"
        for pod in await self._kube.list(PODS, namespace, label_selector=selector):
            address = running_address(pod)
            if address is not None:
                self._addresses.set(child.uid, pod["metadata"]["uid"], address)
                return address
        return None

    async def _find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._kube.get(resource, namespace, name)
        except NotFoundError:
            return None


def running_address(pod: Manifest) -> str | None:
    """Return the IP address of a running pod, else None."""
    status = pod.get("status") or {}
    running = status.get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    return status.get("podIP") if running else None


def _stored_job(manifest: Manifest) -> QwenSFTJob:
    """Return the QwenSFTJob, judged by the rules until it begins."""
    try:
        return parse_job(manifest)
    except InvalidJobError as error:
        job = parse_job(manifest, rules=False)
        if not job.status.has_begun:
            raise
        logger.debug("goes on as it was admitted, against a newer rule: %s", error)
        return job


def _is_usable(job: QwenSFTJob, claim: Manifest) -> bool:
    return job.spec.storage.volume.claim_name is not None or is_ours(job, render.claim(job), claim)


def _configuration(config_map: Manifest | None) -> str | None:
    annotations = (config_map["metadata"].get("annotations") or {}) if config_map else {}
    return annotations.get(ANNOTATION_CONFIGURATION)


async def _nothing() -> None:
    return None
