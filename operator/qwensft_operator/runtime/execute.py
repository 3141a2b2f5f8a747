"""Carries out the actions of a plan: creates and deletes objects, and updates only NetworkPolicies and older Services.

An object that exists already is fine when it belongs to the run, and an obstacle to report otherwise: one to wait for
when its owner is going away. Every action may be repeated: a crash after any of them is harmless.
"""

from __future__ import annotations

import contextlib
import logging
import re

from qwensft.api.v1alpha1 import (
    API_VERSION,
    KIND,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    QwenSFTJob,
    Reason,
    Stage,
)
from qwensft_operator import render
from qwensft_operator.plan.leftovers import removal
from qwensft_operator.plan.limits import refused_image
from qwensft_operator.plan.types import (
    Action,
    CreateJob,
    DeleteJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureNetworkPolicies,
    EnsureService,
    ForgetAttempt,
    Limits,
    Obstacle,
)
from qwensft_operator.plan.views import is_owned
from qwensft_operator.runtime.begun import BegunLostError, begun_config_map, begun_defaults, configuration_of
from qwensft_operator.runtime.installation import signed
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    QWENSFTJOBS,
    SERVICES,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Kube,
    KubeError,
    Manifest,
    NotFoundError,
    Resource,
    TransientError,
)

logger = logging.getLogger(__name__)

_WEBHOOK_FAILURE = re.compile(r'failed calling webhook "(?P<name>[^"]*)"(?P<cause>.*)', re.DOTALL)
_SERVICE = re.compile(r'Post "https://(?P<name>[a-z0-9.-]+)\.(?P<namespace>[a-z0-9-]+)\.svc:')


class ObstacleError(Exception):
    """The API server refuses the action, and will until somebody changes something."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(f"{obstacle.reason}: {obstacle.message}")
        self.obstacle = obstacle


class NotYetError(Exception):
    """Something must go away first, and is about to; try again in a moment."""


class Executor:
    """Carries out actions for runs."""

    def __init__(
        self,
        kube: Kube,
        defaults: render.Defaults,
        installation: str = "",
        *,
        limits: Limits | None = None,
        network: render.NetworkRules | None = None,
    ) -> None:
        self._kube, self._defaults, self._installation = kube, defaults, installation
        self._limits, self._network = limits or Limits(), network or render.NetworkRules()
        self._config_maps: dict[str, Manifest] = {}  # made or found in a pass that is under way, by the run's UID

    async def execute(self, job: QwenSFTJob, action: Action) -> str | None:
        """Carry out one action; return the digest of what the run has begun with if that is known by it.

        Raises:
            ObstacleError: It is refused; the obstacle goes into the next decision.
            NotYetError: An object of that name is on its way out.
            KubeError: Anything that may pass by itself.
        """
        try:
            await self._carry_out(job, action)
            return configuration_of(self._config_maps.get(job.metadata.uid))
        except ForbiddenError as error:
            reason = Reason.QUOTA_EXCEEDED if error.quota else Reason.FORBIDDEN
            raise ObstacleError(Obstacle(reason, error.message)) from error
        except BegunLostError as error:
            raise ObstacleError(Obstacle(Reason.CONFIG_MAP_UNAVAILABLE, str(error))) from error
        except InvalidError as error:
            raise ObstacleError(Obstacle(Reason.INVALID_OBJECT, error.message)) from error
        except TransientError as error:
            failure = _WEBHOOK_FAILURE.search(error.message)
            if failure is None:
                raise
            raise ObstacleError(_webhook_obstacle(failure["name"], failure["cause"])) from error

    def end_pass(self, job: QwenSFTJob) -> None:
        """Forget what was kept from one action of a pass for the next."""
        self._config_maps.pop(job.metadata.uid, None)

    async def _carry_out(self, job: QwenSFTJob, action: Action) -> None:
        match action:
            case EnsureClaim():
                await self._ensure(job, CLAIMS, render.claim(job))
            case EnsureService(by_uid):
                await self._ensure_service(job, by_uid=by_uid)
            case EnsureNetworkPolicies():
                for policy in render.network_policies(job, self._network):
                    await self._ensure_network_policy(job, policy)
            case EnsureConfigMap(stage, attempt):
                await self._ensure_config_map(job, stage, attempt)
            case CreateJob(stage, attempt):
                config_map = self._config_maps.get(job.metadata.uid)
                name = render.child_name(job, stage, attempt)
                begun = await begun_defaults(self._kube, job, name, config_map, self._defaults)
                # Of what the spec names the plan has judged; who may write ConfigMaps can have one say anything.
                if (refusal := refused_image(begun.trainer_image, self._limits)) is not None:
                    raise ObstacleError(Obstacle(Reason.NOT_ALLOWED, refusal))
                manifest = render.stage_job(job, stage, attempt, defaults=begun)
                await self._ensure(job, JOBS, signed(manifest, self._installation))
            case DeleteJob(name, uid):
                await self._delete_job(job, name, uid)
            case ForgetAttempt(stage, attempt, uid):
                await self._forget(job, stage, attempt, uid)

    async def _ensure_config_map(self, job: QwenSFTJob, stage: Stage, attempt: int) -> None:
        wanted = await begun_config_map(self._kube, job, stage, attempt, self._defaults)
        if (refusal := render.oversize(wanted)) is not None:
            raise ObstacleError(Obstacle(Reason.INVALID_OBJECT, refusal))
        self._config_maps[job.metadata.uid] = await self._ensure(job, CONFIG_MAPS, wanted)

    async def _ensure_service(self, job: QwenSFTJob, *, by_uid: bool) -> None:
        wanted = render.service(job, by_uid=by_uid)
        stored = await self._ensure(job, SERVICES, wanted)
        if by_uid and stored["spec"]["selector"] != wanted["spec"]["selector"]:
            meta = {"resourceVersion": stored["metadata"]["resourceVersion"], "labels": wanted["metadata"]["labels"]}
            patch = {"metadata": meta, "spec": {"selector": wanted["spec"]["selector"]}}
            await self._kube.merge(SERVICES, job.metadata.namespace, stored["metadata"]["name"], patch)

    async def _ensure_network_policy(self, job: QwenSFTJob, wanted: Manifest) -> None:
        stored = await self._ensure(job, NETWORK_POLICIES, wanted)
        if stored["spec"] != wanted["spec"]:
            meta = {"resourceVersion": stored["metadata"]["resourceVersion"]}
            patch = {"metadata": meta, "spec": wanted["spec"]}
            await self._kube.merge(NETWORK_POLICIES, job.metadata.namespace, stored["metadata"]["name"], patch)

    async def _ensure(self, job: QwenSFTJob, resource: Resource, manifest: Manifest) -> Manifest:
        """Create an object unless it exists and is the run's; return it as stored."""
        namespace, name = job.metadata.namespace, manifest["metadata"]["name"]
        try:
            return await self._kube.create(resource, namespace, manifest)
        except AlreadyExistsError:
            try:
                existing = await self._kube.get(resource, namespace, name)
            except NotFoundError as error:
                raise NotYetError(f"{manifest['kind']} {name} has just been deleted") from error
            await self._check_owner(job, manifest, existing)
            return existing

    async def _check_owner(self, job: QwenSFTJob, wanted: Manifest, existing: Manifest) -> None:
        what = f"{wanted['kind']} {existing['metadata']['name']}"
        if "deletionTimestamp" in existing["metadata"]:
            finalizers = existing["metadata"].get("finalizers") or ()
            held = f", held by its finalizers ({', '.join(finalizers)})" if finalizers else ""
            raise NotYetError(f"{what} is being deleted{held}")
        if is_ours(job, wanted, existing):
            return
        owner = next(iter(existing["metadata"].get("ownerReferences") or ()), None)
        if owner is not None and await self._is_leaving(job.metadata.namespace, owner):
            message = f"{what} still belongs to an earlier {KIND} {owner['name']} and is going with it"
            raise ObstacleError(Obstacle(Reason.WAITING_FOR_PREVIOUS_RUN, message))
        if owner is None and wanted["metadata"].get("ownerReferences") and _is_left_behind(job, existing):
            command = removal(job.metadata.name, job.metadata.namespace, job.metadata.uid)
            message = f"{what} is of an earlier {KIND} {job.metadata.name}, which was deleted without it"
            raise ObstacleError(Obstacle(Reason.NAME_CONFLICT, f"{message}; remove all that it left: {command}"))
        whose = f"belongs to {owner['kind']} {owner['name']}" if owner else "was made by somebody else"
        message = f"{what} exists and {whose}; delete it, or give this {KIND} another name"
        raise ObstacleError(Obstacle(Reason.NAME_CONFLICT, message))

    async def _is_leaving(self, namespace: str, owner: Manifest) -> bool:
        if (owner["apiVersion"], owner["kind"]) != (API_VERSION, KIND):
            return False  # the operator may not read other kinds
        try:
            current = await self._kube.get(QWENSFTJOBS, namespace, owner["name"])
        except NotFoundError:
            return True
        return current["metadata"]["uid"] != owner["uid"] or "deletionTimestamp" in current["metadata"]

    async def _forget(self, job: QwenSFTJob, stage: Stage, attempt: int, uid: str) -> None:
        name = render.child_name(job, stage, attempt)
        try:
            if attempt > 1:
                await self._delete_config_map(job, name)
            if uid:
                await self._delete_job(job, name, uid)
        except KubeError as error:  # a run must not wait for what is merely tidied up
            logger.warning("what is left of attempt %d of %s was not removed: %s", attempt, stage, error)

    async def _delete_config_map(self, job: QwenSFTJob, name: str) -> None:
        namespace = job.metadata.namespace
        with contextlib.suppress(NotFoundError, ConflictError):
            existing = await self._kube.get(CONFIG_MAPS, namespace, name)
            owners = existing["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == job.metadata.uid for owner in owners):
                uid = existing["metadata"]["uid"]
                await self._kube.delete(CONFIG_MAPS, namespace, name, uid=uid, propagation="Foreground")

    async def _delete_job(self, job: QwenSFTJob, name: str, uid: str) -> None:
        # Gone already, or another Job of that name: either way this one is deleted.
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._kube.delete(JOBS, job.metadata.namespace, name, uid=uid, propagation="Foreground")


def _webhook_obstacle(name: str, cause: str) -> Obstacle:
    # Of the error's chain only the last link says what is wrong; the others hold ports, which are new ones each time.
    words = cause.rpartition(": ")[2].strip() or "no reason given"
    called = _SERVICE.search(cause)
    service = f"service {called['name']} in namespace {called['namespace']}" if called else "the webhook's service"
    message = (
        f"the API server cannot call the admission webhook {name}, and refuses what the run needs next: {words}. Mend "
        f"{service}, or have the webhook's configuration leave this namespace out; the run goes on within a minute"
    )
    return Obstacle(Reason.WEBHOOK_UNAVAILABLE, message)


def is_ours(job: QwenSFTJob, wanted: Manifest, existing: Manifest) -> bool:
    """Whether an existing object is the one that the run wants.

    Objects that outlive a run (a retained claim has no owner) are recognised by the run's name on their label.
    """
    if is_owned(existing, job.metadata.uid):
        return True
    labels = existing["metadata"].get("labels") or {}
    outlives = not wanted["metadata"].get("ownerReferences")
    return outlives and not existing["metadata"].get("ownerReferences") and labels.get(LABEL_JOB) == job.metadata.name


def _is_left_behind(job: QwenSFTJob, existing: Manifest) -> bool:
    """Whether an object without an owner was made for an earlier run of the name, and would be removed as such."""
    labels = existing["metadata"].get("labels") or {}
    made_for = labels.get(LABEL_JOB), labels.get(LABEL_MANAGED_BY)
    named = made_for == (job.metadata.name, MANAGED_BY)
    return named and existing["kind"] != "PersistentVolumeClaim" and labels.get(LABEL_JOB_UID) != job.metadata.uid
