"""Whether a container may use as much memory as the leanest stage takes before it has done anything.

Less is mostly a LimitRange's default for containers that say nothing. Such a stage may be killed anywhere, or get far
enough to complain of something else first.
"""

from __future__ import annotations

from qwensft_trainer.base.environment import memory_limit
from qwensft_trainer.contract.errors import StageError

_MIB = 2**20
LEAST = 256 * _MIB
"""Bytes. Preparing, the leanest stage, takes more once it has imported what it tokenises with."""

_FIELDS = {
    "prepare": "spec.prepare.resources",
    "train": "spec.worker.resources",
    "merge": "spec.merge.resources",
}


def suffices(stage: str) -> None:
    """Raise StageError (OutOfMemory, with the field to set) where no stage can work."""
    limit = memory_limit()
    if limit < LEAST:
        raise StageError(
            "OutOfMemory",
            f"This container may use {limit // _MIB} MiB of memory, and no stage can work with less than "
            f"{LEAST // _MIB} MiB: raise the memory limit in {_FIELDS[stage]} (where that sets none, a LimitRange of "
            "the namespace does).",
        )
