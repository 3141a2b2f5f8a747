"""Gathers everything that a decision about one run may depend on, and no more than it needs this time.

What the facts mean is `plan`'s business, and which are needed is said by `plan.needs`; where they come from, the store
or the API server, is the reader's.
ADR 0095 says why.

A run that has begun is read by its shape alone: a rule that is newer than its admission does not end it.
ADR 0091 says why.

What decides must be known: the run, its Jobs, pods and claims, and its companions' existence. What only informs
(events, nodes, figures) is read with best effort: without it a run learns less, and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from qwensft.api.v1alpha1 import (
    LABEL_JOB_UID,
    NO_DEFAULTS,
    InvalidJobError,
    QwenSFTJob,
    Stage,
    Worker,
    parse_job,
)
from qwensft_operator import plan, render
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ChildJob, ClaimView, Limits, Look, NodeView, Observed, PodView, Scrape
from qwensft_operator.plan.views import is_owned
from qwensft_operator.render.names import service_name
from qwensft_operator.runtime.begun import BegunWorkers, configuration_of
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.execute import is_ours
from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.kinds import CHILDREN, KINDS, Key
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, PODS, SERVICES, Manifest
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.reader import Reader
from qwensft_operator.runtime.scrape import Scraper
from qwensft_operator.runtime.steps import LastSteps
from qwensft_operator.runtime.together import together
from qwensft_operator.runtime.workloads import Workloads

V = TypeVar("V", ClaimView, PodView)

LABEL_INDEX = "batch.kubernetes.io/job-completion-index"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """A run as observed, and the raw document that its status is compared with."""

    manifest: Manifest
    observed: Observed
    jobs: tuple[Manifest, ...] = ()  # with the run's name on their label


class Observer:
    """Observes runs."""

    def __init__(
        self,
        reader: Reader,
        explanations: Explanations,
        scraper: Scraper,
        nodes: Nodes,
        workloads: Workloads,
        *,
        progress_interval: timedelta = timedelta(seconds=60),
        limits: Limits | None = None,
        worker_defaults: Worker = NO_DEFAULTS,
        network_policies: bool = False,
    ) -> None:
        self._reader, self._explanations, self._scraper, self._nodes = reader, explanations, scraper, nodes
        self._workloads = workloads
        self._progress_interval, self._limits = progress_interval, limits or Limits()
        self._worker_defaults, self._network_policies = worker_defaults, network_policies
        self._best_effort, self._steps = BestEffort(), LastSteps()
        self._begun = BegunWorkers(reader.find)

    async def manifest(self, key: Key, *, live: bool = False) -> Manifest | None:
        """Return the QwenSFTJob; None when it does not exist."""
        return await self._reader.run(key, live=live)

    async def left(self, manifest: Manifest) -> tuple[tuple[plan.Dependent, ...], tuple[PodView, ...]]:
        """Return what belongs to a QwenSFTJob that is being deleted, and the pods of its Jobs."""
        meta = manifest["metadata"]
        key, uid = (meta["namespace"], meta["name"]), meta["uid"]
        kinds = [kind for kind in CHILDREN if kind.resource != PODS]
        found, pods = await together(
            together(*(self._reader.children(kind, key) for kind in kinds)),
            self._reader.children(KINDS[PODS], key),
        )
        dependents = tuple(
            plan.dependent(kind.resource.plural.removesuffix("s"), one)
            for kind, objects in zip(kinds, found, strict=True)
            for one in objects
            if is_owned(one, uid)
        )
        own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(LABEL_JOB_UID, uid) == uid]
        return dependents, tuple(plan.pod_view(pod) for pod in own)

    async def observe(self, manifest: Manifest, now: datetime, *, live: bool = False) -> Observation:
        """Gather what belongs to the QwenSFTJob.

        Args:
            manifest: The QwenSFTJob.
            now: The time, against which is judged what may still be merely starting.
            live: Ask nobody but the API server: something has failed before.

        Raises:
            InvalidJobError: This version does not understand the stored document, or refuses what has not begun.
            KubeError: A read failed.
        """
        job = _stored_job(manifest)
        namespace = job.metadata.namespace
        run, jobs = await self._run(job, live=live)
        if run.current_stage is None:
            return Observation(manifest, run.observed)

        stage, attempt = run.current_stage, run.record(run.current_stage).attempt or 1
        needs = plan.needs_of(run)
        (service, config_map), claims, nodes, (pods, failures), more = await together(
            self._companions(run, stage, attempt, live=live),
            self._claims(namespace, needs, live=live),
            self._labelled_nodes(needs.node_label),
            self._pods(run, needs.pods, now, live=live or needs.last_words),
            together(
                self._best_effort.attempt("figures", self._scrape(job, needs.figures), None),
                self._reader.known_leftovers(run, jobs) if needs.leftovers and not live else _nothing(),
                self._workloads.place(namespace, needs.queue) if needs.queue else _nothing(),
                self._reader.source_run((namespace, needs.source_run), live=live) if needs.source_run else _nothing(),
            ),
        )
        scrape, leftovers, place, source = more
        if needs.figures is not None and scrape is not None:
            self._steps.read(needs.figures.uid, scrape.step)
        own = None if claims is None else claims.get(job.workspace_claim)
        # A stranger's object of that name does not count: creating ours then tells of the conflict.
        if config_map is not None and not is_owned(config_map, job.metadata.uid):
            config_map = None
        observed = Observed(
            job=job,
            children=run.observed.children,
            pods=pods,
            creation_failures=failures,
            service_exists=service is not None and is_ours(job, render.service(job), service),
            service_by_uid=service is None or LABEL_JOB_UID in (service["metadata"].get("labels") or {}),
            config_maps=self._config_maps(job, run.child_name(stage, attempt), exists=config_map is not None),
            config_map_from=plan.made_from(config_map) if config_map else "",
            configuration=configuration_of(config_map),
            claim_exists=own is not None and _is_usable(job, own),
            claims=None if claims is None else await self._claim_views(namespace, claims, now),
            nodes=nodes,
            scrape=scrape,
            last_step=self._steps.of(run.current_child.uid) if run.current_child else None,
            progress_interval=self._progress_interval,
            limits=self._limits,
            worker_defaults=await self._begun_worker(config_map) if nodes and config_map else self._worker_defaults,
            network_policies=self._network_policies,
            known_leftovers=leftovers or (),
            queue_place=place,
            source_run=None if source is None else plan.source_run_view(source, self._reader.awaited_in_turn(source)),
        )
        return Observation(manifest, observed, tuple(jobs))

    async def look(self, observation: Observation, what: Look) -> Observation:
        """Read live what the decision on an observation has asked for.

        Raises:
            KubeError: A read failed.
        """
        seen = observation.observed
        named, leftovers = await together(
            self._named_config_maps(seen.job.metadata.namespace, what.config_maps) if what.config_maps else _nothing(),
            self._reader.leftovers(Run(seen), observation.jobs) if what.leftovers else _nothing(),
        )
        seen = replace(
            seen,
            named_config_maps=seen.named_config_maps if named is None else named,
            leftovers=seen.leftovers if leftovers is None else leftovers,
        )
        return replace(observation, observed=seen)

    async def confirm(self, observation: Observation) -> None:
        """Return if the run still is what was observed: asked before a Job is made or deleted.

        Raises:
            ConflictError: It has changed.
            NotFoundError: It is gone.
        """
        await self._reader.confirm(observation.manifest)

    async def _run(self, job: QwenSFTJob, *, live: bool) -> tuple[Run, list[Manifest]]:
        """Return the run, and its child Jobs as they are; one that seems to be lost is looked for once more."""
        key = job.metadata.namespace, job.metadata.name
        found = await self._reader.jobs(key, live=live)
        run = Run(Observed(job=job, children=_children(job, found)))
        lost = plan.needs_of(run).lost_job
        if lost is None or live:
            return run, found
        missed = await self._reader.find(JOBS, key[0], lost)
        found = found if missed is None else [*found, missed]
        return Run(Observed(job=job, children=_children(job, found))), found

    async def _companions(
        self, run: Run, stage: Stage, attempt: int, *, live: bool
    ) -> tuple[Manifest | None, Manifest | None]:
        job, namespace = run.job, run.job.metadata.namespace
        service, config_map = service_name(job), run.child_name(stage, attempt)
        return await together(
            self._reader.companion(SERVICES, namespace, service, live=live) if stage is Stage.TRAIN else _nothing(),
            self._reader.companion(CONFIG_MAPS, namespace, config_map, live=live),
        )

    def _config_maps(self, job: QwenSFTJob, current: str, *, exists: bool) -> frozenset[str]:
        """Return the names of the run's ConfigMaps; of the current attempt's more is known than of the others."""
        known = self._reader.known(CONFIG_MAPS, (job.metadata.namespace, job.metadata.name))
        names = {found["metadata"]["name"] for found in known if is_owned(found, job.metadata.uid)}
        return frozenset(names - {current} | ({current} if exists else set()))

    async def _claims(self, namespace: str, needs: plan.Needs, *, live: bool) -> dict[str, Manifest] | None:
        """Return claims; those that do not exist are left out. None when there was nothing to look at."""
        if not needs.claims:
            return None
        live = live or needs.starts
        asked = (self._reader.claim(namespace, name, live=live, ours=name == needs.new_claim) for name in needs.claims)
        return {claim["metadata"]["name"]: claim for claim in await together(*asked) if claim is not None}

    async def _named_config_maps(self, namespace: str, names: tuple[str, ...]) -> dict[str, frozenset[str]]:
        """Read the keys of ConfigMaps; those that do not exist are left out."""
        found: dict[str, frozenset[str]] = {}
        for name in names:  # one after the other: each may be a MiB
            config_map = await self._reader.find(CONFIG_MAPS, namespace, name)
            if config_map is not None:
                found[name] = plan.config_map_keys(config_map)
        return found

    async def _claim_views(self, namespace: str, claims: dict[str, Manifest], now: datetime) -> tuple[ClaimView, ...]:
        views = []
        for claim in claims.values():
            asked = plan.claim_needs_events(claim, now)
            events = await self._explanations.of_claim(namespace, claim) if asked else []
            views.append(await self._view("events of claims", claim, events, plan.claim_view))
        return tuple(views)

    async def _labelled_nodes(self, label: str | None) -> tuple[NodeView, ...]:
        return () if label is None else await self._nodes.labelled(label)

    async def _begun_worker(self, config_map: Manifest) -> Worker:
        """Return the defaults by which a run has begun; without knowing them those for runs that begin."""
        own = self._worker_defaults
        return await self._best_effort.attempt("by what a run began", self._begun.of(config_map, own), own)

    async def _pods(
        self, run: Run, child: ChildJob | None, now: datetime, *, live: bool
    ) -> tuple[tuple[PodView, ...], tuple[str, ...]]:
        if child is None:
            return (), ()
        namespace = run.job.metadata.namespace
        manifests = await self._reader.pods((namespace, run.job.metadata.name), child.uid, live=live)
        told = await self._explanations.of_pods(namespace, (p for p in manifests if plan.needs_events(p, now)))
        views = [
            await self._view("events of pods", pod, told.get(pod["metadata"]["uid"], ()), plan.pod_view)
            for pod in manifests
        ]
        if not plan.job_needs_events(run, child, len(views), now):
            return tuple(views), ()
        events = await self._explanations.of_job(namespace, child.uid)
        return tuple(views), plan.creation_failures(events)

    async def _view(
        self,
        what: str,
        about: Manifest,
        events: Iterable[Manifest],
        view: Callable[[Manifest, Iterable[Manifest]], V],
    ) -> V:
        """Return the view of an object with what its events tell; without that when an event is malformed."""

        async def explained() -> V:
            return view(about, events)

        return await self._best_effort.attempt(what, explained(), view(about, ())) if events else view(about, ())

    async def _scrape(self, job: QwenSFTJob, child: ChildJob | None) -> Scrape | None:
        if child is None:
            return None
        pods = await self._reader.pods((job.metadata.namespace, job.metadata.name), child.uid, live=False)
        # Of a training, the pod with the first index; of the others, no pod has one.
        first = (p for p in pods if (p["metadata"].get("labels") or {}).get(LABEL_INDEX, "0") == "0")
        address = next(filter(None, map(running_address, first)), None)
        return None if address is None else await self._scraper.scrape(address)


def _children(job: QwenSFTJob, jobs: Iterable[Manifest]) -> tuple[ChildJob, ...]:
    return tuple(c for j in jobs if (c := plan.child_job(j, job.metadata.uid)) is not None)


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


async def _nothing() -> None:
    return None
