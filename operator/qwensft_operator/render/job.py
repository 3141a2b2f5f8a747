"""The batch/v1 Job of a stage's attempt.

Never retried by Kubernetes itself: a lone restarted index would leave its peers hanging, so the operator restarts the
whole gang as the next attempt.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from qwensft.api.v1alpha1 import (
    ANNOTATION_MADE_FROM,
    EXIT_PERMANENT,
    INTERFACE_ENVIRONMENT,
    LABEL_QUEUE,
    LABEL_QUEUE_PRIORITY,
    METRICS_PORT,
    QwenSFTJob,
    Stage,
    editable_digest,
    parse_quantity,
    with_defaults,
)
from qwensft.estimate.architectures import known
from qwensft.estimate.merging import merge_memory
from qwensft_operator.render.names import CA_BUNDLE, child_name, labels, metadata, service_name
from qwensft_operator.render.pod import Defaults, Placement, pod_template
from qwensft_operator.render.volumes import CA_FILE, stage_volumes

STOP_SECONDS = 30
CHECKPOINT_SECONDS = 300  # a training pod saves a checkpoint between SIGTERM and its end
_PREPARE_ASKS = {"cpu": "4", "memory": "8Gi"}  # at most, unless spec.prepare.resources says otherwise
# Node rank 0 alone serves it, but all pods of a Job have one template: who scrapes selects (ADR 0157). On the host's
# network the scheduler keeps two training pods off one node by it: the second could not listen.
_METRICS = [{"name": "metrics", "containerPort": METRICS_PORT}]


def stage_job(job: QwenSFTJob, stage: Stage, attempt: int, *, defaults: Defaults) -> dict[str, Any]:
    """Return the manifest of the attempt's Job.

    Args:
        job: the custom resource.
        stage: whose Job.
        attempt: counted from 1, across suspensions and restarts.
        defaults: what the installation decides, with the image and the worker's defaults by which the run has begun.
    """
    made_from = editable_digest(job.spec, stage)  # as the user wrote it: another default is no edit
    job = job.replace(spec=job.spec.replace(worker=with_defaults(job.spec.worker, defaults.worker)))
    template = {Stage.PREPARE: _prepare, Stage.TRAIN: _train, Stage.MERGE: _merge}[stage](job, attempt, defaults)
    nodes = job.spec.distribution.nodes if stage is Stage.TRAIN else 1
    spec: dict[str, Any] = {
        "completionMode": "Indexed" if stage is Stage.TRAIN else "NonIndexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            # The order counts: the operator reads the rule from the Job's failure message.
            "rules": [
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_PERMANENT]}},
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": template,
    }
    if stage is Stage.PREPARE and job.spec.prepare.active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = job.spec.prepare.active_deadline_seconds
    meta = metadata(job, child_name(job, stage, attempt), stage=stage, attempt=attempt)
    meta["labels"] = {**(job.spec.worker.job_labels or {}), **meta["labels"]}
    if stage is Stage.TRAIN and job.queue is not None:
        meta["labels"] |= _queue_labels(job, job.queue)
        spec["suspend"] = True  # the queue lets it start, also while its webhook, which would hold it, is away
    meta["annotations"] = {
        **(job.spec.worker.job_annotations or {}),
        ANNOTATION_MADE_FROM: made_from,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def _queue_labels(job: QwenSFTJob, queue: str) -> dict[str, str]:
    priority = job.metadata.labels.get(LABEL_QUEUE_PRIORITY)
    return {LABEL_QUEUE: queue} | ({LABEL_QUEUE_PRIORITY: priority} if priority else {})


def _prepare(job: QwenSFTJob, attempt: int, defaults: Defaults) -> dict[str, Any]:
    prepare = job.spec.prepare
    worker = _placement(job, {})
    # Elsewhere than its workers, prepare could bind a zonal claim where no worker can reach it.
    placement = Placement(
        resources=prepare.resources.document() if prepare.resources else _prepare_resources(job),
        node_selector=worker.node_selector if prepare.node_selector is None else prepare.node_selector,
        affinity=worker.affinity if prepare.affinity is None else prepare.affinity.document(),
        tolerations=worker.tolerations if prepare.tolerations is None else [t.document() for t in prepare.tolerations],
    )
    return pod_template(
        job, Stage.PREPARE, attempt,
        defaults=defaults, placement=placement,
        env=[*_env(job, Stage.PREPARE, attempt), *_services(defaults), *_hub_token(job)],
        volumes=stage_volumes(job, Stage.PREPARE, attempt), ports=[], grace_period_seconds=STOP_SECONDS,
    )  # fmt: skip


def _prepare_resources(job: QwenSFTJob) -> dict[str, Any]:
    """CPU and memory of the worker: the same limits, and requests no larger than what prepare has a use for.

    Where quotas ask for either, the worker has them.
    """
    worker = job.spec.worker.resources
    asked, limits = (worker.requests or {}, worker.limits or {}) if worker else ({}, {})
    amounts = {name: amount for name in _PREPARE_ASKS if (amount := asked.get(name) or limits.get(name)) is not None}
    resources = {
        "requests": {name: min(amount, _PREPARE_ASKS[name], key=parse_quantity) for name, amount in amounts.items()},
        "limits": {name: limits[name] for name in amounts if name in limits},
    }
    return {name: value for name, value in resources.items() if value}


def _train(job: QwenSFTJob, attempt: int, defaults: Defaults) -> dict[str, Any]:
    distribution, worker = job.spec.distribution, job.spec.worker
    resources = _with_devices(
        worker.resources.document() if worker.resources else {}, job, count=worker.accelerator.count
    )
    placement = replace(_placement(job, resources, accelerated=True), spread=_spread(job, attempt))
    master = f"{child_name(job, Stage.TRAIN, attempt)}-0.{service_name(job)}"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    env = [
        *_env(job, Stage.TRAIN, attempt),
        {"name": "QWENSFT_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "NNODES", "value": str(distribution.nodes)},
        {"name": "NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        {"name": "NPROC_PER_NODE", "value": str(job.spec.processes_per_node)},
        {"name": "MASTER_ADDR", "value": master},
        {"name": "MASTER_PORT", "value": str(distribution.master_port)},
    ]
    if job.spec.run_policy.stall_timeout_seconds is not None:
        env.append({"name": "QWENSFT_STALL_TIMEOUT_SECONDS", "value": str(job.spec.run_policy.stall_timeout_seconds)})
    if worker.network_interface is not None:
        env += [{"name": name, "value": worker.network_interface} for name in INTERFACE_ENVIRONMENT]
    return pod_template(
        job, Stage.TRAIN, attempt,
        defaults=defaults, placement=placement, env=env,
        volumes=stage_volumes(job, Stage.TRAIN, attempt),
        ports=_METRICS,
        grace_period_seconds=CHECKPOINT_SECONDS, subdomain=service_name(job), host_network=worker.host_network,
    )  # fmt: skip


def _merge(job: QwenSFTJob, attempt: int, defaults: Defaults) -> dict[str, Any]:
    merge = job.spec.merge
    resources = _merge_resources(job)
    by_llamafactory = merge.engine == "llamafactory"
    accelerated = by_llamafactory and merge.device == "auto" and job.spec.worker.accelerator.count > 0
    if accelerated:
        resources = _with_devices(resources, job, count=1)
    return pod_template(
        job, Stage.MERGE, attempt,
        defaults=defaults, placement=_placement(job, resources, accelerated=accelerated),
        env=_env(job, Stage.MERGE, attempt), volumes=stage_volumes(job, Stage.MERGE, attempt), ports=_METRICS,
        grace_period_seconds=STOP_SECONDS,
    )  # fmt: skip


def _merge_resources(job: QwenSFTJob) -> dict[str, Any]:
    """What the spec says; else what the streaming engine needs, or, for LLaMA-Factory's, what the worker has."""
    merge = job.spec.merge
    if merge.resources is not None:
        return merge.resources.document()
    if merge.engine == "llamafactory":
        return job.spec.worker.resources.document() if job.spec.worker.resources else {}
    needed = merge_memory(known(job.spec.model.name), logits=merge.verify == "full")
    resources: dict[str, Any] = {"requests": {"cpu": "1", "memory": f"{math.ceil(needed / 2**30)}Gi"}}
    worker = job.spec.worker.resources
    limit = (worker.limits or {}).get("memory") if worker else None
    # Where quotas ask for limits, the worker has one; an image of an earlier version takes what the worker has.
    if limit is not None and parse_quantity(limit) >= needed:
        resources["limits"] = {"memory": limit}
    return resources


def _placement(job: QwenSFTJob, resources: dict[str, Any], *, accelerated: bool = False) -> Placement:
    worker = job.spec.worker
    return Placement(
        resources=resources,
        node_selector=worker.node_selector,
        affinity=worker.affinity.document() if worker.affinity else None,
        tolerations=[toleration.document() for toleration in worker.tolerations or ()],
        # Nodes without accelerators need not know the runtime that hands them out.
        runtime_class_name=worker.runtime_class_name if accelerated else None,
    )


def _spread(job: QwenSFTJob, attempt: int) -> list[dict[str, Any]]:
    """The constraints, about the pods of this attempt: those of another run, or on their way out, are no matter."""
    selector = {"labelSelector": {"matchLabels": labels(job, Stage.TRAIN, attempt)}}
    return [c.document() | selector for c in job.spec.worker.topology_spread_constraints or ()]


def _with_devices(resources: dict[str, Any], job: QwenSFTJob, *, count: int) -> dict[str, Any]:
    if count == 0:
        return resources
    return {**resources, "limits": {job.spec.worker.accelerator.resource: str(count), **resources.get("limits", {})}}


def _env(job: QwenSFTJob, stage: Stage, attempt: int) -> list[dict[str, Any]]:
    # The operator's own variables stand last, so that they win.
    own = [{"name": "QWENSFT_STAGE", "value": stage.value}, {"name": "QWENSFT_ATTEMPT", "value": str(attempt)}]
    if job.spec.worker.ca_bundle is not None:
        own.append({"name": "QWENSFT_CA_BUNDLE", "value": f"{CA_BUNDLE}/{CA_FILE}"})
    return [*(variable.document() for variable in job.spec.worker.env or ()), *own]


def _services(defaults: Defaults) -> list[dict[str, Any]]:
    named = ",".join(defaults.link_local_services)
    return [{"name": "QWENSFT_LINK_LOCAL_SERVICES", "value": named}] if named else []


def _hub_token(job: QwenSFTJob) -> list[dict[str, Any]]:
    source = job.spec.model.effective_source
    return [
        {"name": name, "valueFrom": {"secretKeyRef": origin.token_secret_ref.document()}}
        for name, origin in (("HF_TOKEN", source.hugging_face), ("MODELSCOPE_API_TOKEN", source.model_scope))
        if origin is not None and origin.token_secret_ref is not None
    ]
