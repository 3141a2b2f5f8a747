"""Which kinds of objects are watched, which of them, and what is remembered of each.

Jobs and pods are remembered by what `plan.views` reads: a pod's spec alone is larger than everything else of a run.
ADR 0095 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_MANAGED_BY, MANAGED_BY
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    SERVICES,
    Manifest,
    Resource,
)

Key = tuple[str, str]
"""Namespace and name of a QwenSFTJob."""

_CHILDREN = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_JOB}"
_UNREAD_METADATA = frozenset({"managedFields", "selfLink"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that is watched."""

    resource: Resource
    selector: str = ""
    metadata_only: bool = False
    fields: frozenset[str] | None = None  # of its top level, beside the metadata; None: all
    spec: frozenset[str] | None = None  # fields of its spec; None: all
    wake: float = 0.1  # seconds in which further events join the first one

    def kept(self, manifest: Manifest) -> Manifest:
        """Return what is remembered of an object; the argument is not changed."""
        metadata = {name: value for name, value in manifest["metadata"].items() if name not in _UNREAD_METADATA}
        kept: dict[str, Any] = {
            name: value for name, value in manifest.items() if self.fields is None or name in self.fields
        }
        kept["metadata"] = metadata
        if self.spec is not None and "spec" in kept:
            kept["spec"] = {name: value for name, value in kept["spec"].items() if name in self.spec}
        return kept

    def run_of(self, manifest: Manifest) -> Key:
        """Return the run that an object is, or is a child of."""
        metadata = manifest["metadata"]
        name = metadata["name"] if self is RUNS else metadata["labels"][LABEL_JOB]
        return metadata["namespace"], name

    def is_watched(self, manifest: Manifest) -> bool:
        """Whether the watch of the kind tells of the object."""
        labels = manifest["metadata"].get("labels") or {}
        return not self.selector or (labels.get(LABEL_MANAGED_BY) == MANAGED_BY and LABEL_JOB in labels)


RUNS = Kind(QWENSFTJOBS)
# A pod changes some five times until it is ready, and a gang has hundreds: one look serves many of its events.
CHILDREN = (
    Kind(JOBS, _CHILDREN, fields=frozenset({"spec", "status"}), spec=frozenset({"suspend", "managedBy"}), wake=0.3),
    Kind(
        PODS,
        _CHILDREN,
        fields=frozenset({"spec", "status"}),
        spec=frozenset({"nodeName", "schedulingGates"}),
        wake=1.5,
    ),
    Kind(SERVICES, _CHILDREN, metadata_only=True, fields=frozenset()),
    Kind(CONFIG_MAPS, _CHILDREN, metadata_only=True, fields=frozenset()),
    Kind(CLAIMS, _CHILDREN, fields=frozenset({"spec", "status"})),
)
KINDS = {kind.resource: kind for kind in (RUNS, *CHILDREN)}
