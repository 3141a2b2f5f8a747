"""Names, labels, owners and in-pod paths that several manifests share.

ADR 0098 says why children carry the UID of their run.
"""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import (
    API_VERSION,
    DEFAULT_MERGE_DIRECTORY,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    LABEL_STAGE,
    MANAGED_BY,
    Dataset,
    QwenSFTJob,
    SourceRun,
    Stage,
)

WORKSPACE = "/workspace"  # the storage claim
MODEL = "/model"  # the base model's claim or image, read-only
ADAPTER_MOUNT = "/adapter"  # the claim of the run whose adapter is trained on, read-only, in the prepare pod alone
CACHE = "/cache"  # the claim of downloaded models that jobs share; prepare alone writes to it
DATASETS = "/datasets"  # one folder per dataset on a volume, read-only, in the prepare pod alone
SECRETS = "/secrets"  # one folder per dataset with credentials, in the prepare pod alone
TRACKER_SECRETS = (
    "/etc/qwensft-trackers"  # one folder per tracker with credentials, where the run is prepared and trained
)
CONFIG = "/etc/qwensft"  # the attempt's ConfigMap
CA_BUNDLE = "/etc/qwensft-ca"  # the certificates that the user's authorities sign with
OWN_DEEPSPEED = "/etc/qwensft-deepspeed"  # the user's DeepSpeed configuration, in the prepare pod alone
UNKNOWN_UID = "UID-OF-THE-RUN"
UNKNOWN_DIGEST = "DIGEST-OF-ITS-MODEL"
UNKNOWN_ADAPTER = "DIGEST-OF-ITS-ADAPTER"


def child_name(job: QwenSFTJob, stage: Stage, attempt: int) -> str:
    """Return the name that an attempt's Job and ConfigMap share."""
    return f"{job.metadata.name}-{stage}-{attempt}"


def service_name(job: QwenSFTJob) -> str:
    """Return the name of the headless Service, the subdomain of training pods."""
    return f"{job.metadata.name}-train"


def run_directory(job: QwenSFTJob) -> str:
    """Return the run's folder as pods see it."""
    return f"{WORKSPACE}/{job.run_path}"


def data_directory(job: QwenSFTJob) -> str:
    """Return the folder of everything that prepare makes for the training."""
    return f"{run_directory(job)}/data"


def model_path(job: QwenSFTJob) -> str:
    """Return where pods find the base model: on its own volume or image, or where prepare provides it."""
    source = job.spec.model.effective_source
    mounted = source.volume or source.image or source_run(job)
    return below(MODEL, mounted.path) if mounted else f"{run_directory(job)}/model"


def source_run(job: QwenSFTJob) -> SourceRun | None:
    """Return where the merged model of the run lies with which this one begins; None with any other source.

    Nothing is made before the status tells. Until then, as for `kubectl qwensft render`, it is where runs keep it by
    default, with a word in capitals for what only that run knows.
    """
    named = job.spec.model.effective_source.run
    if named is None or job.status.source_run is not None:
        return job.status.source_run if named else None
    return SourceRun(
        name=named.name,
        uid=UNKNOWN_UID,
        claim_name=f"{named.name}-workspace",
        path=f"{named.name}-{UNKNOWN_UID}/{DEFAULT_MERGE_DIRECTORY}",
        digest=UNKNOWN_DIGEST,
    )


def adapter_run(job: QwenSFTJob) -> SourceRun | None:
    """Return where the adapter lies that is trained on; None without one. Until the status tells as above."""
    adapter = job.spec.model.adapter
    if adapter is None or job.status.adapter_run is not None:
        return job.status.adapter_run if adapter else None
    name = adapter.run.name
    return SourceRun(
        name=name,
        uid=UNKNOWN_UID,
        claim_name=f"{name}-workspace",
        path=f"{name}-{UNKNOWN_UID}/train/1",
        digest=UNKNOWN_ADAPTER,
    )


def adapter_directory(job: QwenSFTJob) -> str:
    """Return the folder where prepare puts the adapter that is trained on."""
    return f"{data_directory(job)}/adapter"


def dataset_directory(dataset: Dataset) -> str:
    """Return the folder where the prepare pod finds a dataset that lies on a volume or in a ConfigMap."""
    return f"{DATASETS}/{dataset.name}"


def secret_directory(dataset: Dataset) -> str:
    """Return the folder where the prepare pod finds a dataset's credentials, one file for each."""
    return f"{SECRETS}/{dataset.name}"


def tracker_secrets(tracker: str) -> str:
    """Return the folder where pods find the credentials of a tracker, one file for each."""
    return f"{TRACKER_SECRETS}/{tracker}"


def below(directory: str, path: str) -> str:
    """Return a path within a directory; the empty path is the directory itself."""
    return f"{directory}/{path}".rstrip("/")


def labels(job: QwenSFTJob, stage: Stage | None = None, attempt: int | None = None) -> dict[str, str]:
    """Return the labels of a child object.

    Not app.kubernetes.io/instance: to GitOps tools it says that an object comes from the application of that name.
    """
    common = {
        "app.kubernetes.io/name": "qwen-sft",
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_JOB: job.metadata.name,
        LABEL_JOB_UID: job.metadata.uid,
    }
    if stage is not None:
        common |= {"app.kubernetes.io/component": stage.value, LABEL_STAGE: stage.value}
    if attempt is not None:
        common[LABEL_ATTEMPT] = str(attempt)
    return common


def metadata(
    job: QwenSFTJob, name: str, *, stage: Stage | None = None, attempt: int | None = None, owned: bool = True
) -> dict[str, Any]:
    """Return a child's metadata. An owned child goes with the QwenSFTJob; blockOwnerDeletion would need more RBAC."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": job.metadata.namespace,
        "labels": labels(job, stage, attempt),
    }
    if not owned:
        del meta["labels"][LABEL_JOB_UID]  # it goes over to the next run of that name
    else:
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": job.metadata.name, "uid": job.metadata.uid}
        meta["ownerReferences"] = [owner | {"controller": True}]
    return meta
