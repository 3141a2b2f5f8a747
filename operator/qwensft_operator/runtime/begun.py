"""What a run has begun with, image, files and defaults, and goes on with: also under another operator.

They stand in its first ConfigMap, which is immutable, and every later attempt and stage gets a copy. A digest of them
is an annotation of each copy, and part of the status.
ADR 0099 says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from qwensft.api.v1alpha1 import (
    ANNOTATION_MADE_FROM,
    KIND,
    NO_DEFAULTS,
    QwenSFTJob,
    Stage,
    Worker,
    editable_digest,
    parse_worker_defaults,
)
from qwensft_operator import render
from qwensft_operator.plan.views import is_owned
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, Kube, Manifest, NotFoundError, Resource

ANNOTATION_CONFIGURATION = "qwensft.io/configuration"
_VARIABLE = (*render.EDITABLE, "operatorVersion")  # of run.yaml: may differ without another training


_KEPT = 256  # runs that are prepared at once, about


class BegunWorkers:
    """The worker's defaults by which runs have begun: each ConfigMap, which cannot change, is read once."""

    def __init__(self, find: Callable[[Resource, str, str], Awaitable[Manifest | None]]) -> None:
        self._find = find
        self._known: dict[str, Worker] = {}  # by the ConfigMap's UID, the oldest first

    async def of(self, config_map: Manifest, otherwise: Worker) -> Worker:
        """Return the defaults that stand in a ConfigMap, of which the metadata are known; `otherwise` once it is gone.

        Raises:
            BegunLostError: The ConfigMap holds what no operator has written.
            KubeError: The read failed.
        """
        meta = config_map["metadata"]
        if meta["uid"] not in self._known:
            found = await self._find(CONFIG_MAPS, meta["namespace"], meta["name"])
            if found is None or found["metadata"]["uid"] != meta["uid"]:
                return otherwise
            self._known[meta["uid"]] = _worker(found.get("data") or {})
            if len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
        return self._known[meta["uid"]]


class BegunLostError(Exception):
    """Nobody knows any more by what the run has begun, and this version of the operator would go on by other files."""


async def begun_config_map(
    kube: Kube, job: QwenSFTJob, stage: Stage, attempt: int, defaults: render.Defaults
) -> Manifest:
    """Return the ConfigMap of an attempt: the run's first one, or a copy with what may be edited.

    Raises:
        BegunLostError: No copy is left, and the status tells that the run has begun by other files; or the one that is
            left holds what no operator has written.
        KubeError: A read failed.
    """
    begun = await _earlier(kube, job, stage, attempt)
    named = job.spec.worker.image is not None
    data = _data(begun) if begun else {}
    image = None if named else data.get(render.IMAGE) or await _image_of_job(kube, job) or defaults.trainer_image
    worker = _worker(data) if begun else defaults.worker
    manifest = render.config_map(job, stage, attempt, image=image, worker=worker, begun=data or None)
    annotations = (begun or manifest)["metadata"].get("annotations") or {}
    configuration = annotations.get(ANNOTATION_CONFIGURATION)
    if configuration is None:
        # What is made for a preparation is what a run begins with.
        is_first = stage is Stage.PREPARE
        first = manifest if is_first else render.config_map(job, Stage.PREPARE, 1, image=image, worker=worker)
        configuration = _digest(data or first["data"])
    if begun is None and job.status.configuration not in (None, configuration):
        name = render.child_name(job, Stage.PREPARE, 1)
        message = (
            f"ConfigMap {name}, by which the run has begun, is gone with all its copies, and this version of the "
            f"operator would go on by other files or another image ({configuration}, not {job.status.configuration}); "
            f"restore it, install the operator by which the run has begun, or create a new {KIND}"
        )
        raise BegunLostError(message)
    manifest["metadata"]["annotations"] = {
        ANNOTATION_CONFIGURATION: configuration,
        ANNOTATION_MADE_FROM: editable_digest(job.spec, stage),
    }
    return manifest


async def begun_defaults(
    kube: Kube, job: QwenSFTJob, name: str, config_map: Manifest | None, defaults: render.Defaults
) -> render.Defaults:
    """Return the installation's defaults with what a run has begun with in their place.

    The image stays the installation's where the job names its own, or neither ConfigMap nor an earlier Job tells one.

    Args:
        kube: The API server.
        job: The run.
        name: Of the attempt's ConfigMap.
        config_map: That ConfigMap if it has just been made or found, which saves a read.
        defaults: Those of the installation.

    Raises:
        BegunLostError: The ConfigMap holds what no operator has written.
        NotFoundError: There is no such ConfigMap (any more).
        KubeError: A read failed.
    """
    if config_map is None or config_map["metadata"]["name"] != name:
        config_map = await kube.get(CONFIG_MAPS, job.metadata.namespace, name)
    data = config_map.get("data") or {}
    named = job.spec.worker.image
    image = named or data.get(render.IMAGE) or await _image_of_job(kube, job) or defaults.trainer_image
    return replace(defaults, trainer_image=image, worker=_worker(data))


def configuration_of(config_map: Manifest | None) -> str | None:
    """Return the digest that a ConfigMap of an attempt carries."""
    annotations = (config_map["metadata"].get("annotations") or {}) if config_map else {}
    return annotations.get(ANNOTATION_CONFIGURATION)


async def _earlier(kube: Kube, job: QwenSFTJob, stage: Stage, attempt: int) -> Manifest | None:
    """Return a ConfigMap by which the run has begun: one of its preparation or training, since all are copies."""
    wanted = render.child_name(job, stage, attempt)
    for name in _names(job, stage):
        if name != wanted and (found := await _own(kube, job, CONFIG_MAPS, name)) is not None:
            return found
    return None


def _names(job: QwenSFTJob, stage: Stage) -> tuple[str, ...]:
    """Return where to look, the best place first: earlier versions wrote a new one for every attempt to prepare."""
    stages = job.status.stages
    first = (Stage.PREPARE if stage is Stage.PREPARE else Stage.TRAIN, 1)
    last = [
        (of, number)
        for of, record in ((Stage.PREPARE, stages.prepare), (Stage.TRAIN, stages.train))
        for number in ((record.attempt or 1, (record.attempt or 1) - 1) if record else ())
    ]
    places = (first, *last, (Stage.PREPARE, 1))
    return tuple(dict.fromkeys(render.child_name(job, of, number) for of, number in places if number > 0))


async def _image_of_job(kube: Kube, job: QwenSFTJob) -> str | None:
    """Return the image of the Job that prepared: earlier versions did not write it down."""
    prepared = job.status.stages.prepare
    if prepared is None or prepared.job_name is None:
        return None
    made = await _own(kube, job, JOBS, prepared.job_name)
    image: str | None = None if made is None else made["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


async def _own(kube: Kube, job: QwenSFTJob, resource: Resource, name: str) -> Manifest | None:
    try:
        found = await kube.get(resource, job.metadata.namespace, name)
    except NotFoundError:
        return None
    return found if is_owned(found, job.metadata.uid) else None


def _data(config_map: Manifest) -> Manifest:
    """Return the files of a ConfigMap, if they can be those of a run: whoever may write ConfigMaps can replace it."""
    data: Manifest = config_map.get("data") or {}
    try:
        render.read_run(data)
    except ValueError as error:
        name = config_map["metadata"]["name"]
        message = (
            f"ConfigMap {name} is not what the run has begun with ({error}): put that back, or create a new {KIND}"
        )
        raise BegunLostError(message) from error
    return data


def _worker(data: Manifest) -> Worker:
    """Return the defaults of the worker in a ConfigMap's files; one of an earlier version, or without any, has none."""
    text = data.get(render.WORKER_DEFAULTS)
    try:
        return NO_DEFAULTS if text is None else parse_worker_defaults(text)
    except ValueError as error:
        message = (
            f"{render.WORKER_DEFAULTS} in the run's ConfigMap is not what the run has begun with ({error}): put that "
            f"back, install the operator that wrote it, or create a new {KIND}"
        )
        raise BegunLostError(message) from error


def _digest(data: Manifest) -> str:
    """Identify a beginning by all that decides about the training, 16 hex digits long."""
    run = {key: value for key, value in render.read_run(data).items() if key not in _VARIABLE}
    text = json.dumps({**data, "run.yaml": run}, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
