"""The volumes of each stage's pods: what is mounted where, and what may be written to.

A claim or image that several mounts share becomes one volume of the pod.
ADR 0051 says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import CaBundle, Dataset, QwenSFTJob, Stage
from qwensft_operator.render.names import (
    ADAPTER_MOUNT,
    CA_BUNDLE,
    CACHE,
    CONFIG,
    MODEL,
    OWN_DEEPSPEED,
    WORKSPACE,
    adapter_run,
    child_name,
    dataset_directory,
    secret_directory,
    source_run,
    tracker_secrets,
)

_CLAIM = "persistentVolumeClaim"
CA_FILE = "ca.crt"
_TOKEN = "token"  # noqa: S105 -- the name of a file
_WANDB_KEY = "WANDB_API_KEY"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume together with the place where the trainer sees it."""

    name: str
    path: str
    source: dict[str, Any]
    read_only: bool = True


def stage_volumes(job: QwenSFTJob, stage: Stage, attempt: int) -> list[Volume]:
    """Return the volumes of a stage's pods, in the order in which they are mounted."""
    common = _of_every_stage(job, stage, attempt)
    if stage is Stage.PREPARE:
        return [*common, *_of_prepare(job), *_of_trackers(job)]
    return [*common, *_of_train(job), *_of_trackers(job)] if stage is Stage.TRAIN else [*common]


def mounts(volumes: list[Volume]) -> list[dict[str, Any]]:
    """Return the container's volumeMounts."""
    return [{"name": _name(v, volumes), "mountPath": v.path, "readOnly": v.read_only} for v in volumes]


def sources(volumes: list[Volume]) -> list[dict[str, Any]]:
    """Return the pod's volumes, each claim once."""
    return [{"name": v.name, **v.source} for v in volumes if v.name == _name(v, volumes)]


def _name(volume: Volume, volumes: list[Volume]) -> str:
    """Return the name of the first volume with the same claim: model and datasets often share one."""
    return next(v.name for v in volumes if v is volume or (v.source == volume.source and _CLAIM in v.source))


def _of_every_stage(job: QwenSFTJob, stage: Stage, attempt: int) -> Iterator[Volume]:
    yield Volume("workspace", WORKSPACE, _claim(job.workspace_claim), read_only=False)
    yield Volume("config", CONFIG, {"configMap": {"name": child_name(job, stage, attempt)}})
    yield Volume("scratch", "/tmp", {"emptyDir": {}}, read_only=False)  # noqa: S108 -- the pod's own emptyDir
    if (bundle := job.spec.worker.ca_bundle) is not None:
        yield Volume("ca-bundle", CA_BUNDLE, _ca_bundle(bundle))
    source, cache = job.spec.model.effective_source, job.spec.model.cache
    if source.volume is not None:
        yield Volume("model", MODEL, _claim(source.volume.claim_name))
    if source.image is not None:
        image = {"reference": source.image.reference}
        if source.image.pull_policy is not None:
            image["pullPolicy"] = source.image.pull_policy
        yield Volume("model", MODEL, {"image": image})
    if (begun := source_run(job)) is not None:
        yield Volume("model", MODEL, _claim(begun.claim_name))
    if cache is not None:
        # The run directory links to the model in the cache, so that every stage needs it.
        yield Volume("cache", CACHE, _claim(cache.claim_name), read_only=stage is not Stage.PREPARE)


def _of_prepare(job: QwenSFTJob) -> Iterator[Volume]:
    if (begun := adapter_run(job)) is not None:
        yield Volume("adapter", ADAPTER_MOUNT, _claim(begun.claim_name))
    for number, dataset in enumerate(job.spec.all_datasets):
        yield from _of_a_dataset(dataset, number)
    deepspeed = job.spec.distribution.deepspeed
    if deepspeed is not None and deepspeed.config is not None:
        yield Volume("deepspeed", OWN_DEEPSPEED, _config_map(deepspeed.config.name, deepspeed.config.key))


def _of_a_dataset(dataset: Dataset, number: int) -> Iterator[Volume]:
    source, directory = dataset.source, dataset_directory(dataset)
    if source.volume is not None:
        yield Volume(f"dataset-{number}", directory, _claim(source.volume.claim_name))
    elif source.config_map is not None:
        yield Volume(f"dataset-{number}", directory, _config_map(source.config_map.name, source.config_map.key))
    hub = source.hugging_face or source.model_scope
    secret: dict[str, Any] = {}
    if hub is not None and hub.token_secret_ref is not None:
        token = hub.token_secret_ref
        secret = {"secretName": token.name, "items": [{"key": token.key, "path": _TOKEN}]}
    elif source.url is not None and source.url.credentials_secret_ref is not None:
        secret = {"secretName": source.url.credentials_secret_ref.name}
    if secret:
        yield _secret(f"secret-{number}", secret_directory(dataset), secret)


def _of_train(job: QwenSFTJob) -> Iterator[Volume]:
    size = job.spec.worker.shared_memory
    limit = {"sizeLimit": size} if size else {}  # else the pod's memory limit bounds it
    yield Volume("shared-memory", "/dev/shm", {"emptyDir": {"medium": "Memory", **limit}}, read_only=False)  # noqa: S108


def _of_trackers(job: QwenSFTJob) -> Iterator[Volume]:
    """Of prepare, too: a Secret that is not there is told before accelerators wait for it."""
    report = job.spec.training.report_to
    if report is None:
        return
    if report.mlflow is not None and (credentials := report.mlflow.credentials_secret_ref) is not None:
        yield _secret("mlflow", tracker_secrets("mlflow"), {"secretName": credentials.name})
    if report.wandb is not None and (key := report.wandb.api_key_secret_ref) is not None:
        items = [{"key": key.key, "path": _WANDB_KEY}]
        yield _secret("wandb", tracker_secrets("wandb"), {"secretName": key.name, "items": items})


def _secret(name: str, path: str, secret: dict[str, Any]) -> Volume:
    # Readable for the pod's group (fsGroup) alone.
    return Volume(name, path, {"secret": secret | {"defaultMode": 0o440}})


def _ca_bundle(bundle: CaBundle) -> dict[str, Any]:
    if bundle.config_map_key_ref is not None:
        items = [{"key": bundle.config_map_key_ref.key, "path": CA_FILE}]
        return {"configMap": {"name": bundle.config_map_key_ref.name, "items": items}}
    if bundle.secret_key_ref is not None:
        items = [{"key": bundle.secret_key_ref.key, "path": CA_FILE}]
        return {"secret": {"secretName": bundle.secret_key_ref.name, "items": items}}
    raise ValueError("the CA bundle has no source")


def _claim(name: str) -> dict[str, Any]:
    return {_CLAIM: {"claimName": name}}


def _config_map(name: str, key: str) -> dict[str, Any]:
    return {"configMap": {"name": name, "items": [{"key": key, "path": key}]}}
