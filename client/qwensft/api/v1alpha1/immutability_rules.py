"""Which parts of the spec are fixed at creation, and the transition rules that say so to the apiserver.

The rules sit on `spec`, not on the fields: a rule of an optional field is not evaluated when the field appears or
vanishes.
ADR 0022 says why.
"""

from typing import Final

from .base import Rule

MUTABLE: Final = (
    "merge",
    "prepare",
    "runPolicy",
    "worker.affinity",
    "worker.caBundle",
    "worker.imagePullPolicy",
    "worker.imagePullSecrets",
    "worker.jobAnnotations",
    "worker.jobLabels",
    "worker.nodeSelector",
    "worker.podAnnotations",
    "worker.podLabels",
    "worker.priorityClassName",
    "worker.resources",
    "worker.runtimeClassName",
    "worker.schedulerName",
    "worker.serviceAccountName",
    "worker.tolerations",
    "worker.topologySpreadConstraints",
)
"""What may be edited: nothing here changes what is learnt. Edits reach the next attempt of a stage, and one
that waits (ADR 0101)."""

FIXED: Final = (
    "model",
    "datasets",
    "evaluation",
    "tuning",
    "training",
    "distribution",
    "storage",
    "extraArguments",
    "worker.accelerator",
    "worker.env",
    "worker.hostNetwork",
    "worker.image",
    "worker.networkInterface",
    "worker.securityContext",
    "worker.sharedMemory",
)

_ADVICE = "is fixed at creation, since one QwenSFTJob is one run: create a new QwenSFTJob for another one"


def _unchanged(path: str) -> Rule:
    # Written with has(): the apiserver's cost estimate knows no size behind the shorter `self.?x == oldSelf.?x`, and
    # refuses it.
    before, after = _present("oldSelf", path), _present("self", path)
    return Rule(
        cel=f"{after} == {before} && (!{after} || self.{path} == oldSelf.{path})",
        message=f"{path} {_ADVICE}",
        check=lambda spec: True,  # a single document has no past; only the apiserver can tell
        field=f".{path}",
    )


def _present(root: str, path: str) -> str:
    names = [root, *path.split(".")]
    paths = [".".join(names[:end]) for end in range(2, len(names) + 1)]
    return f"({' && '.join(f'has({name})' for name in paths)})"


IMMUTABLE: Final = tuple(_unchanged(path) for path in FIXED)
