"""The pod of a stage: one trainer container that runs under the `restricted` Pod Security Standard.

Only the host's network, which the user must ask for, leaves that standard. What only one stage has (devices, volumes,
environment) is decided in `job`.
ADR 0052 says why, and ADR 0189 why autoscalers are to leave it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import NO_DEFAULTS, QwenSFTJob, Stage, Worker
from qwensft_operator.render.names import labels
from qwensft_operator.render.volumes import Volume, mounts, sources

# With these, autoscalers that would empty a little used node wait for the end of a pod.
_NOT_TO_BE_MOVED = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
DEFAULT_ID = 65532  # user, group and fsGroup unless spec.worker.securityContext says otherwise


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator's installation decides for jobs that do not say it."""

    trainer_image: str
    image_pull_policy: str = "IfNotPresent"
    worker: Worker = NO_DEFAULTS  # as `parse_worker_defaults` reads them
    link_local_services: tuple[str, ...] = ()  # addresses that downloads may use although they are link-local


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stage's pods may run, and with what. Values as they stand in a pod."""

    resources: dict[str, Any]
    node_selector: dict[str, str] | None
    affinity: dict[str, Any] | None
    tolerations: list[dict[str, Any]] | None
    runtime_class_name: str | None = None
    spread: list[dict[str, Any]] | None = None


def pod_template(
    job: QwenSFTJob,
    stage: Stage,
    attempt: int,
    *,
    defaults: Defaults,
    placement: Placement,
    env: list[dict[str, Any]],
    volumes: list[Volume],
    ports: list[dict[str, Any]],
    grace_period_seconds: int,
    subdomain: str | None = None,
    host_network: bool = False,
) -> dict[str, Any]:
    """Return the pod template of a stage's Job."""
    worker = job.spec.worker
    container = {
        "name": "trainer",
        "image": worker.image or defaults.trainer_image,
        "imagePullPolicy": worker.image_pull_policy or defaults.image_pull_policy,
        "args": [stage.value],
        # Whoever dies before the trainer can write its report has at least said something on the way.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": env,
        "resources": placement.resources,
        "ports": ports,
        "volumeMounts": mounts(volumes),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_period_seconds,
        "serviceAccountName": worker.service_account_name,
        "priorityClassName": worker.priority_class_name,
        "runtimeClassName": placement.runtime_class_name,
        "imagePullSecrets": [secret.document() for secret in worker.image_pull_secrets or ()],
        "subdomain": subdomain,
        "hostNetwork": host_network or None,
        "dnsPolicy": "ClusterFirstWithHostNet" if host_network else None,  # else the node's DNS, which knows no Service
        "nodeSelector": placement.node_selector,
        "affinity": placement.affinity,
        "tolerations": placement.tolerations,
        "topologySpreadConstraints": placement.spread,
        "schedulerName": worker.scheduler_name,
        "securityContext": _security(job),
        "containers": [{key: value for key, value in container.items() if value not in (None, [], {})}],
        "volumes": sources(volumes),
    }
    return {
        "metadata": {
            "labels": {**(worker.pod_labels or {}), **labels(job, stage, attempt)},
            "annotations": {**_NOT_TO_BE_MOVED, **(worker.pod_annotations or {})},
        },
        "spec": {key: value for key, value in spec.items() if value not in (None, [], {})},
    }


def _security(job: QwenSFTJob) -> dict[str, Any]:
    wanted = job.spec.worker.security_context
    chosen = wanted.document() if wanted else {}
    chosen.pop("assignIds", None)
    assigned = wanted is None or wanted.assign_ids
    ids = {"runAsUser": DEFAULT_ID, "runAsGroup": DEFAULT_ID, "fsGroup": DEFAULT_ID} if assigned else {}
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        # Changing the owner of a model's files one by one takes minutes on network storage.
        "fsGroupChangePolicy": "OnRootMismatch",
        **ids,
        **chosen,
    }
