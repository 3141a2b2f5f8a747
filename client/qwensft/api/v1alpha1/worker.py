"""`spec.worker` and `spec.prepare`: the pods that do the work, their image, hardware, placement and identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from .base import ApiModel, Rule, argument, exactly_one_of
from .common import (
    ConfigMapKeyRef,
    EnvVars,
    ImageReference,
    LocalObjectReferences,
    ObjectName,
    SecretKeyRef,
)
from .labels import AnnotationMap, LabelMap, PodAnnotationMap
from .placement import Affinity, Tolerations, TopologySpreadConstraints
from .quantities import Bytes
from .resources import ResourceRequirements, is_offered, is_offered_cel

_RESERVED_LABELS = ("qwensft.io/", "batch.kubernetes.io/", "app.kubernetes.io/", "job-name", "controller-uid")
_ID_MAX = 2**31 - 1
INTERFACE_ENVIRONMENT = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
"""Variables that carry worker.networkInterface."""


class Accelerator(ApiModel):
    """GPUs or other devices of one training pod."""

    rules = (
        Rule(
            cel=f"!has(self.resource) || {is_offered_cel('self.resource')}",
            message="a device plugin's resource is a domain, without requests. before it, '/' and a name of at most 63 "
            "characters: for example nvidia.com/gpu",
            check=lambda accelerator: is_offered(accelerator.resource),
            field=".resource",
        ),
    )

    resource: str = Field(
        "nvidia.com/gpu",
        min_length=1,
        max_length=128,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Name of the extended resource that the device plugin offers.",
    )
    count: int = Field(
        1,
        ge=0,
        le=128,
        description="Devices per training pod. 0 trains on CPUs: for trials and tests.",
        json_schema_extra=argument("use_cpu"),
    )
    memory: Bytes | None = Field(
        None,
        description="Memory of one device, such as 80Gi, for the estimate of whether the training fits. Default: the "
        "node label nvidia.com/gpu.memory.",
    )


class CaBundle(ApiModel):
    """Certificates of authorities, as PEM: exactly one member."""

    rules = (
        exactly_one_of(
            "config_map_key_ref", "secret_key_ref", example="configMapKeyRef: {name: company-ca, key: ca.crt}"
        ),
    )

    config_map_key_ref: ConfigMapKeyRef | None = Field(None, description="A key of a ConfigMap.")
    secret_key_ref: SecretKeyRef | None = Field(None, description="A key of a Secret.")


class PodSecurity(ApiModel):
    """User and groups of the pods. Everything else is fixed: non-root, no capabilities, read-only root file system."""

    assign_ids: bool = Field(
        True,
        description="Set the defaults of user and groups below. With false those that are not given are left to the "
        "cluster, as OpenShift wants it, which assigns them by namespace.",
    )

    run_as_user: int | None = Field(
        None,
        ge=1,
        le=_ID_MAX,
        description="User ID, for volumes that belong to a certain user. Never 0. Default: 65532.",
    )
    run_as_group: int | None = Field(None, ge=0, le=_ID_MAX, description="Primary group ID. Default: 65532.")
    fs_group: int | None = Field(
        None,
        ge=0,
        le=_ID_MAX,
        description="Group that volumes are made writable for, where the storage supports it (host directories and "
        "most NFS exports do not). Default: 65532.",
    )
    supplemental_groups: list[Annotated[int, Field(ge=0, le=_ID_MAX)]] | None = Field(
        None, max_length=32, description="Further group IDs, such as the group that owns an NFS export."
    )


def _no_reserved_label(attribute: str) -> Rule:
    name = to_camel(attribute)
    reserved = " || ".join(f"key.startsWith('{prefix}')" for prefix in _RESERVED_LABELS)
    return Rule(
        cel=f"!has(self.{name}) || self.{name}.all(key, !({reserved}))",
        message="labels of qwensft.io, batch.kubernetes.io and app.kubernetes.io, job-name and controller-uid "
        "are set by the operator and by Kubernetes: use other keys",
        check=lambda worker: not any(key.startswith(_RESERVED_LABELS) for key in getattr(worker, attribute) or {}),
        field=f".{name}",
    )


def _accelerator_is_not_repeated(worker: Worker) -> bool:
    name, resources = worker.accelerator.resource, worker.resources
    return resources is None or (name not in (resources.requests or {}) and name not in (resources.limits or {}))


_RESOURCE = "self.?accelerator.?resource.orDefault()"


class Worker(ApiModel):
    """The training pods; the prepare and merge pods take image, identity and, by default, placement from here.

    Which fields may change during a run is stated by the rules of `Spec`.
    """

    rules = (
        _no_reserved_label("pod_labels"),
        _no_reserved_label("job_labels"),
        Rule(
            cel=f"!({_RESOURCE} in self.?resources.?requests.orValue({{}}))"
            f" && !({_RESOURCE} in self.?resources.?limits.orValue({{}}))",
            message="the accelerator is requested by worker.accelerator.count: remove it from worker.resources",
            check=_accelerator_is_not_repeated,
            field=".resources",
        ),
        Rule(
            cel="!has(self.networkInterface) || !has(self.env)"
            f" || !self.env.exists(variable, variable.name in {list(INTERFACE_ENVIRONMENT)})",
            message="networkInterface sets NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME: remove them from env, or remove "
            "networkInterface",
            check=lambda worker: (
                worker.network_interface is None
                or not any(variable.name in INTERFACE_ENVIRONMENT for variable in worker.env or ())
            ),
            field=".env",
        ),
    )

    image: ImageReference | None = Field(
        None,
        description="Trainer image of all stages. Default: the one that the operator was installed with.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="When nodes pull the image. May change between attempts. Default: the operator's setting."
    )
    image_pull_secrets: LocalObjectReferences | None = Field(
        None, description="Secrets for pulling the image. May change between attempts. Default: the installation's."
    )
    accelerator: Accelerator = Field(Accelerator(), description="GPUs or other devices of each training pod.")
    resources: ResourceRequirements | None = Field(
        None,
        description="CPU, memory and other resources of each training pod, beside the accelerator. May change "
        "between attempts. Default: the installation's.",
    )
    node_selector: LabelMap | None = Field(
        None, description="Labels that a node must have. May change between attempts. Default: the installation's."
    )
    tolerations: Tolerations | None = Field(
        None, description="Taints that pods tolerate. May change between attempts. Default: the installation's."
    )
    affinity: Affinity | None = Field(None, description="Affinity, as in a pod. May change between attempts.")
    topology_spread_constraints: TopologySpreadConstraints | None = Field(
        None, description="How the training pods of an attempt are spread over nodes. May change between attempts."
    )
    scheduler_name: ObjectName | None = Field(
        None,
        description="Scheduler of the pods, such as one that places all pods of a gang or none. May change between "
        "attempts. Default: the installation's, else the cluster's.",
    )
    priority_class_name: ObjectName | None = Field(
        None,
        description="PriorityClass of the pods. May change between attempts. Default: the installation's, else the "
        "cluster's.",
    )
    service_account_name: ObjectName | None = Field(
        None,
        description="ServiceAccount of the pods; its token is never mounted. May change between attempts. Default: the "
        "namespace's default.",
    )
    runtime_class_name: ObjectName | None = Field(
        None,
        description="RuntimeClass of the pods that use accelerators, such as nvidia. May change between attempts. "
        "Default: the installation's, else the cluster's.",
    )
    env: EnvVars | None = Field(
        None, description="Further environment variables of the pods of all stages, such as NCCL_DEBUG or HF_ENDPOINT."
    )
    shared_memory: Bytes | None = Field(
        None,
        description="Size limit of /dev/shm, over which the processes of a pod exchange data; what is used counts as "
        "memory of the pod. Default: bounded by the pod's memory limit alone.",
    )
    host_network: bool = Field(
        False,
        description="Training pods use the network of their nodes, as some RDMA set-ups need, and leave the Pod "
        "Security Standard restricted; two jobs on one node then need different masterPorts.",
    )
    network_interface: str | None = Field(
        None,
        min_length=1,
        max_length=15,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Network interface over which the processes of different nodes talk, such as eth0 "
        "(NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME). Default: NCCL and Gloo choose.",
    )
    pod_labels: LabelMap | None = Field(None, description="Further labels of the pods. May change between attempts.")
    pod_annotations: PodAnnotationMap | None = Field(
        None,
        description="Further annotations of the pods. May change between attempts. Autoscalers are told to leave the "
        'pods where they are (cluster-autoscaler.kubernetes.io/safe-to-evict: "false", karpenter.sh/do-not-disrupt: '
        '"true"), unless these say otherwise.',
    )
    job_labels: LabelMap | None = Field(
        None,
        description="Further labels of the child Jobs, such as kueue.x-k8s.io/queue-name. May change between attempts.",
    )
    job_annotations: AnnotationMap | None = Field(
        None, description="Further annotations of the child Jobs. May change between attempts."
    )
    ca_bundle: CaBundle | None = Field(
        None,
        description="Certificates of authorities that the pods trust beside the public ones, for hubs, mirrors, stores "
        "and proxies of your own. May change between attempts.",
    )
    security_context: PodSecurity | None = Field(
        None, description="User and groups of the pods. Defaults of its members: the installation's, else those below."
    )


class Prepare(ApiModel):
    """The prepare stage: one CPU pod that downloads the model, checks the rows and tokenises them."""

    resources: ResourceRequirements | None = Field(
        None,
        description="CPU and memory of the pod. Tokenising takes one process for each CPU of the limit. Default: the "
        "worker's limits of both, and its requests up to 4 CPUs and 8Gi.",
    )
    node_selector: LabelMap | None = Field(None, description="Labels that the node must have. Default: the worker's.")
    tolerations: Tolerations | None = Field(None, description="Taints that the pod tolerates. Default: the worker's.")
    affinity: Affinity | None = Field(None, description="Affinity, as in a pod. Default: the worker's.")
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="Seconds after which an attempt to prepare is ended. Default: no limit."
    )
    retries: int = Field(
        2, ge=0, le=20, description="Further attempts after a failure that may pass, such as a broken download."
    )
    preview: Literal["File", "Log"] = Field(
        "File",
        description="Where the first rows of each dataset are shown as the model sees them: File (preview.txt and "
        "preview.json in the run's directory), or Log (in the pod's log, too, where more people may read the rows).",
    )
