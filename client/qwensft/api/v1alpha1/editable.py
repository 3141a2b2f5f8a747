"""What of a spec may be edited and reaches a stage's pods, in one digest: has a Job been made from what the spec says?

ADR 0101 says why.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from .immutability_rules import MUTABLE
from .spec import SpecFields
from .stage import Stage

_VERSION: Final = "v1"  # of what goes into a digest: a release that changes that raises it
_OF_THE_WORKER: Final = frozenset(path.removeprefix("worker.") for path in MUTABLE if path.startswith("worker."))
_OF_THE_TRAINING: Final = frozenset({"queueName", "stallTimeoutSeconds"})  # of runPolicy
_OF_NO_POD: Final = frozenset({"enabled", "retries"})


def editable_digest(spec: SpecFields, stage: Stage) -> str:
    """Return a digest of the editable fields that a stage's Job is made from, as its user wrote them.

    It is a version and 16 hex digits, as in v1:0123456789abcdef. What is not written is no part of it: a default that
    changes, or a field that is new, changes no digest.
    """
    made_from = {"worker": _picked(spec.worker.document(), _OF_THE_WORKER)}
    if stage is Stage.TRAIN and (policy := _picked(spec.run_policy.document(), _OF_THE_TRAINING)):
        made_from["runPolicy"] = policy
    if stage is Stage.PREPARE:
        made_from["prepare"] = _without(spec.prepare.document())
        # Whether a merge follows: a preparation refuses what trains but cannot be merged.
        made_from["merge"] = _picked(spec.merge.document(), frozenset({"enabled"}))
    if stage is Stage.MERGE:
        made_from["merge"] = _without(spec.merge.document())
    return f"{_VERSION}:{hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]}"


def comparable_digest(stored: str) -> str:
    """Return a digest that was written on an object; "" for one of another version, which can tell of no edit."""
    return stored if stored.startswith(f"{_VERSION}:") else ""


def _picked(block: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name in names}


def _without(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in _OF_NO_POD}
