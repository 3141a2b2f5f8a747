"""`clean`: checkpoints that a run needs no more, and claims of runs that are no more; shown before they go. Pure.

ADR 0176 says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_MANAGED_BY, MANAGED_BY, Phase, QwenSFTJob, parse_quantity
from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.output import columns
from qwensft.client import words

_CHECKPOINT = re.compile(r"(?P<folder>[^/]+/checkpoint-\d+)/.+")


@dataclass(frozen=True)
class Removable:
    """A folder on a run's volume, or a claim."""

    name: str
    size: int
    why: str
    uid: str = ""
    version: str = ""
    """Of a claim, its resourceVersion: what is deleted is what was looked at."""


def still(shown: Iterable[Removable], now: Iterable[Removable]) -> tuple[list[Removable], list[Removable]]:
    """Return those of what was shown that may still go, as they are now, and those that may not."""
    there = {(one.name, one.uid): one for one in now}
    kept = [one for one in shown if (one.name, one.uid) not in there]
    return [there[one.name, one.uid] for one in shown if one not in kept], kept


def require_succeeded(job: QwenSFTJob) -> None:
    """Raise CommandError unless the run needs its checkpoints no more."""
    if job.status.phase != Phase.SUCCEEDED:
        raise CommandError(
            f"{job.metadata.name} is {job.status.phase or Phase.PENDING}, and may go on from its checkpoints: only "
            "those of a run that has succeeded are removed",
            FAILED,
        )


def checkpoints(job: QwenSFTJob, sizes: Mapping[str, int]) -> list[Removable]:
    """Return the checkpoints of a run that has succeeded.

    Args:
        job: The run.
        sizes: Bytes of the files below its train/, by their paths there.
    """
    folders: dict[str, int] = {}
    for path, size in sizes.items():
        if found := _CHECKPOINT.fullmatch(path):
            folders[found["folder"]] = folders.get(found["folder"], 0) + size
    base = f"{job.run_path}/train"
    return [Removable(f"{base}/{name}", size, "the run has succeeded") for name, size in sorted(folders.items())]


def claims(
    found: Iterable[dict[str, Any]], jobs: Sequence[QwenSFTJob], pods: Iterable[dict[str, Any]]
) -> list[Removable]:
    """Return the claims that the operator has made for runs that are no more, and that no pod mounts."""
    used = {job.workspace_claim for job in jobs}
    for pod in pods:
        for volume in pod.get("spec", {}).get("volumes") or []:
            used.add((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
    for job in jobs:
        source = job.spec.model.effective_source.volume
        used |= {source.claim_name} if source else set()
        used |= {begun.claim_name for begun in (job.status.source_run, job.status.adapter_run) if begun}
        used |= {job.spec.model.cache.claim_name} if job.spec.model.cache else set()
        used |= {dataset.source.volume.claim_name for dataset in job.spec.all_datasets if dataset.source.volume}
    return [
        Removable(
            claim["metadata"]["name"],
            _capacity(claim),
            f"run {claim['metadata']['labels'].get(LABEL_JOB)} is no more",
            claim["metadata"]["uid"],
            claim["metadata"]["resourceVersion"],
        )
        for claim in found
        if (claim["metadata"].get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY
        and claim["metadata"]["name"] not in used
        and "deletionTimestamp" not in claim["metadata"]
    ]


def _capacity(claim: dict[str, Any]) -> int:
    stored = (claim.get("status", {}).get("capacity") or {}).get("storage")
    asked = claim["spec"]["resources"]["requests"]["storage"]
    return int(parse_quantity(stored or asked))


def text(removable: Sequence[Removable]) -> str:
    """Return what would be removed, as a table with the sum."""
    rows = [["SIZE", "NAME", "WHY"], *([words.size(one.size), one.name, one.why] for one in removable)]
    return "\n".join([*columns(rows), f"{words.size(sum(one.size for one in removable))} in all"])
