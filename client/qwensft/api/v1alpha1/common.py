"""Fragments of Kubernetes' own API that the spec re-uses: names, paths, resources, placement, environment.

They are written out, not marked as unknown, so that `kubectl explain` documents them and the apiserver checks them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from .base import ApiModel, Rule, UniqueBy, exactly_one_of
from .quantities import Amounts, endless, parse_quantity

_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
ConfigKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]

RelativePath = Annotated[
    str,
    Field(max_length=512, pattern=r"^[^\x00-\x1f\\]*$"),
    Rule(
        cel="self == '' || self.split('/').all(part, !(part in ['', '.', '..']))",
        message="must be a relative path without '..', and without a leading or trailing '/': for example "
        "data/train.json",
        check=lambda path: path == "" or not {"", ".", ".."} & set(path.split("/")),
    ),
]
"""A path inside a volume. The empty path is the volume's root."""

FilePath = Annotated[RelativePath, Field(min_length=1)]
"""A relative path that names something below the root."""


def _requests_within_limits(resources: ResourceRequirements) -> bool:
    limits = resources.limits or {}
    return all(
        parse_quantity(amount) <= parse_quantity(limits[name])
        for name, amount in (resources.requests or {}).items()
        if name in limits
    )


class ResourceRequirements(ApiModel):
    """Compute resources of one container."""

    rules = (
        Rule(
            cel="!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)"
            f" || {endless('self.requests[name]')} || {endless('self.limits[name]')}"
            " || !quantity(string(self.requests[name])).isGreaterThan(quantity(string(self.limits[name]))))",
            message="a request is greater than its limit: raise the limit or lower the request",
            check=_requests_within_limits,
        ),
    )

    requests: Amounts | None = Field(
        None,
        description="Amounts that the scheduler reserves, such as cpu: 4 or memory: 32Gi. Memory and storage have a "
        "unit: 32 alone would be 32 bytes.",
    )
    limits: Amounts | None = Field(
        None,
        description="Amounts that the container can never exceed. Resources named here and not in requests are "
        "requested too.",
    )


class Toleration(ApiModel):
    """A taint that pods tolerate; the same fields as in a pod."""

    key: str | None = Field(
        None, max_length=317, description="Key of the taint. Default: every key, with operator Exists."
    )
    operator: Literal["Equal", "Exists"] | None = Field(
        None, description="How key and value are compared. Default: Equal."
    )
    value: str | None = Field(
        None, max_length=63, description="Value of the taint, for operator Equal. Default: empty."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint to tolerate. Default: every effect."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Seconds that the pod stays after a NoExecute taint appears. Default: without end.",
    )


class TopologySpreadConstraint(ApiModel):
    """How evenly the pods of an attempt are spread; the same fields as in a pod, without the selector of pods."""

    max_skew: int = Field(ge=1, le=1024, description="By how many pods two domains may differ.")
    topology_key: str = Field(
        min_length=1,
        max_length=317,
        description="Label of nodes whose values are the domains, such as topology.kubernetes.io/zone.",
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What happens to a pod that would break it."
    )
    min_domains: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Fewer domains than these count as empty ones. Only with DoNotSchedule. Default: 1.",
    )
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether only nodes that fit nodeSelector and affinity count. Default: Honor."
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether nodes with taints that the pods do not tolerate are left out. Default: Ignore."
    )


Affinity = Annotated[
    dict[str, Any], Field(json_schema_extra=cast("Any", {"x-kubernetes-preserve-unknown-fields": True}))
]
"""Affinity as in a pod; the apiserver checks it when the Job is made."""

_LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
QueueName = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
"""A LocalQueue: the name of an object that is also the value of a label."""
LabelMap = Annotated[dict[str, _LabelValue], Field(max_length=32)]
AnnotationMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]
Tolerations = Annotated[list[Toleration], Field(max_length=32)]
TopologySpreadConstraints = Annotated[list[TopologySpreadConstraint], Field(max_length=8)]


Endpoint = Annotated[
    str, Field(min_length=8, max_length=512, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$")
]
"""Address of a service: scheme, host, optional port and path; no credentials, no query."""

RepositoryName = Annotated[
    str,
    Field(min_length=3, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class LocalObjectReference(ApiModel):
    """An object in the job's namespace."""

    name: ObjectName = Field(description="Name of the object, in the namespace of the job.")


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's namespace."""

    name: ObjectName = Field(description="Name of the Secret, in the namespace of the job.")
    key: ConfigKey = Field(description="Key in the Secret.")


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the job's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the namespace of the job.")
    key: ConfigKey = Field(description="Key in the ConfigMap.")


class FieldRef(ApiModel):
    """A field of the pod."""

    field_path: str = Field(
        min_length=1, max_length=256, description="Path of the field, such as metadata.name or status.podIP."
    )


class EnvVarSource(ApiModel):
    """Where the value of an environment variable comes from: exactly one member."""

    rules = (
        exactly_one_of(
            "secret_key_ref", "config_map_key_ref", "field_ref", example="secretKeyRef: {name: wandb, key: api-key}"
        ),
    )

    secret_key_ref: SecretKeyRef | None = Field(None, description="A key of a Secret.")
    config_map_key_ref: ConfigMapKeyRef | None = Field(None, description="A key of a ConfigMap.")
    field_ref: FieldRef | None = Field(None, description="A field of the pod.")


RESERVED_ENVIRONMENT = (
    "NNODES",
    "NODE_RANK",
    "NPROC_PER_NODE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "HF_TOKEN",
    "MODELSCOPE_API_TOKEN",
)
"""Variables that the operator sets from typed fields; another value would break the rendezvous or leak a token."""


class EnvVar(ApiModel):
    """An environment variable of the trainer container, in the pods of all stages."""

    rules = (
        Rule(
            cel="!(has(self.value) && has(self.valueFrom))",
            message="set value or valueFrom, not both",
            check=lambda env: env.value is None or env.value_from is None,
        ),
        Rule(
            cel=f"!self.name.startsWith('QWENSFT_') && !(self.name in {list(RESERVED_ENVIRONMENT)})",
            message="the operator sets this variable itself: use spec.distribution (nodes, processesPerNode, "
            "masterPort) or spec.model.source (tokenSecretRef)",
            check=lambda env: not env.name.startswith("QWENSFT_") and env.name not in RESERVED_ENVIRONMENT,
            field=".name",
        ),
    )

    name: str = Field(
        min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable."
    )
    value: str | None = Field(None, max_length=4096, description="The value. Default: the empty string.")
    value_from: EnvVarSource | None = Field(None, description="Where to read the value from, in place of value.")


EnvVars = Annotated[list[EnvVar], Field(max_length=64), UniqueBy("name")]
LocalObjectReferences = Annotated[list[LocalObjectReference], Field(max_length=16), UniqueBy("name")]


class VolumePath(ApiModel):
    """A directory or file on a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim, in the namespace of the job.")
    path: RelativePath = Field("", description="Path below the root of the volume. Default: the root itself.")


class VolumeFile(ApiModel):
    """A file on a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim, in the namespace of the job.")
    path: FilePath = Field(description="Path of the file below the root of the volume, such as sft/train.jsonl.")
