"""The ConfigMaps and Secrets that a spec names: which stage's pods read them, and where they stand in the spec.

The fields are found by their types. The operator may read ConfigMaps, and judges them before a stage starts
(`config_maps`). It may not read Secrets: of these it only knows what a node says, to which the field is added here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from qwensft.api.v1alpha1 import (
    ApiModel,
    ConfigMapKey,
    ConfigMapKeyRef,
    LocalObjectReference,
    QwenSFTJob,
    SecretKeyRef,
    Stage,
)
from qwensft_operator.plan.run import Run

# What kubelets say of an object or key that is not there. Of a key in a volume they do not say in which object.
_ABSENT = (
    re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found'),
    re.compile(r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>\S+)"),
    re.compile(r"references non-existent (?P<kind>secret|config) key: (?P<key>\S+)"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A ConfigMap or Secret that pods read. Without a key they take all of it."""

    kind: Literal["ConfigMap", "Secret"]
    name: str
    key: str | None
    field: str  # its path in the spec


def references(job: QwenSFTJob, stage: Stage) -> tuple[Reference, ...]:
    """Return what the pods of a stage read, in the order of the spec."""
    found = _within(job.spec, "spec")
    # All pods get the worker's environment; model, rows and DeepSpeed's configuration are fetched by prepare.
    trains = stage is Stage.TRAIN
    read = ("spec.worker.", "spec.training.") if trains else ("spec.",) if stage is Stage.PREPARE else ("spec.worker.",)
    return tuple(r for r in found if r.field.startswith(read))


def absent_hint(run: Run, words: str) -> str:
    """Return which fields name the object or key that a node does not find, to follow the node's words; else ""."""
    absent = next((found for pattern in _ABSENT if (found := pattern.search(words))), None)
    if absent is None or run.current_stage is None:
        return ""
    names = absent.groupdict()
    fields = [
        r.field
        for r in references(run.job, run.current_stage)
        if r.kind[0].lower() == names["kind"][0].lower()
        and names.get("name", r.name) == r.name
        and names.get("key", r.key) == r.key
    ]
    return f"; {'add' if 'key' in names else 'create'} it, or correct {' or '.join(fields)}" if fields else ""


def _within(value: Any, field: str) -> Iterator[Reference]:
    match value:
        case ConfigMapKey() | ConfigMapKeyRef():
            yield Reference("ConfigMap", value.name, value.key, field)
        case SecretKeyRef():
            yield Reference("Secret", value.name, value.key, field)
        case LocalObjectReference():  # in this API always a Secret
            yield Reference("Secret", value.name, None, field)
        case ApiModel():
            for name, info in type(value).model_fields.items():
                inner = getattr(value, name)
                if isinstance(inner, ApiModel | list):  # most are not, and every decision comes by here
                    yield from _within(inner, f"{field}.{info.serialization_alias or name}")
        case list():
            for item in value:
                yield from _within(item, f"{field}[{getattr(item, 'name', '')}]")
