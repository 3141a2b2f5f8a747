"""Fragments of Kubernetes' own API that the spec re-uses: names, paths, references, environment.

They are written out, not marked as unknown, so that `kubectl explain` documents them and the apiserver checks them.
Resources, labels and placement have modules of their own.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from .base import ApiModel, Rule, UniqueBy, exactly_one_of
from .labels import ANNOTATION_KEY, LABEL_KEY

_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
ConfigKey = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
    Rule(
        cel="self != '.' && !self.startsWith('..')",
        message="a key that is '.' or begins with '..' is no file name: use another key",
        check=lambda key: key != "." and not key.startswith(".."),
    ),
]
ImageReference = Annotated[
    str,
    Field(min_length=1, max_length=512, pattern=r"^[^\s]+$"),
    Rule(
        cel="self.matches('^[!-~]+$')",
        message="a reference of an image is ASCII without blanks, such as registry.example.com/team/image:1",
        check=lambda reference: re.fullmatch("[!-~]+", reference) is not None,
    ),
]

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

RUN_NAME = r"^[a-z]([-a-z0-9]{0,43}[a-z0-9])?$"
RunName = Annotated[str, Field(min_length=1, max_length=45, pattern=RUN_NAME)]
"""Name of a QwenSFTJob, which becomes part of host names."""

QueueName = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
"""A LocalQueue: the name of an object that is also the value of a label."""

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


_POD_FIELDS = (
    *(f"metadata.{name}" for name in ("name", "namespace", "uid")),
    *(f"spec.{name}" for name in ("nodeName", "serviceAccountName")),
    *(f"status.{name}" for name in ("hostIP", "hostIPs", "podIP", "podIPs")),
)
_POD_MAPS = rf"metadata\.(labels\['{LABEL_KEY}'\]|annotations\['{ANNOTATION_KEY}'\])"


class FieldRef(ApiModel):
    """A field of the pod."""

    rules = (
        Rule(
            cel=f'self.fieldPath in {list(_POD_FIELDS)} || self.fieldPath.matches(r"^{_POD_MAPS}$")',
            message=f"fieldPath is one of {', '.join(_POD_FIELDS)}, or metadata.labels['key'] or "
            "metadata.annotations['key']",
            check=lambda ref: ref.field_path in _POD_FIELDS or re.fullmatch(_POD_MAPS, ref.field_path) is not None,
            field=".fieldPath",
        ),
    )

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
