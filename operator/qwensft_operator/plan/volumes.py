"""Can the claims of a run serve? Said before pods hang on them, and again while pods that mount them do not start.

Reading claims is the runtime's work; `needs` says which. A claim that merely has no volume yet is fine:
many get one only when a pod needs it.
ADR 0005 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qwensft.api.v1alpha1 import Reason, Stage, parse_quantity
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.source_run import ADAPTER, Part, chosen
from qwensft_operator.plan.startup import is_persistent
from qwensft_operator.plan.step import Step, held_phase
from qwensft_operator.plan.types import ClaimView, Event

STORAGE_CHECK = 30.0  # seconds until a claim that could not serve is looked at again
_MANY_NODES = {"ReadOnlyMany", "ReadWriteMany"}


@dataclass(frozen=True, slots=True)
class Mount:
    """A claim that pods of the run mount, and what for."""

    claim: str
    field: str  # where the spec names it
    of_run: str = ""  # the run whose claim it is, where the spec names that
    part: Part | None = None  # and what of that run is read
    writes: bool = False
    by_gang: bool = True  # by all pods of the training at once


def mounts(run: Run) -> tuple[Mount, ...]:
    """Return the claims that the current stage's pods mount, the storage claim first.

    Only prepare reads datasets, and the adapter of another run.
    """
    spec, prepares = run.job.spec, run.current_stage is Stage.PREPARE
    found = [Mount(run.job.workspace_claim, "spec.storage.volume", writes=True)]
    source, cache = spec.model.source, spec.model.cache
    if source is not None and source.volume is not None:
        found.append(Mount(source.volume.claim_name, "spec.model.source.volume"))
    for part, begun in chosen(run):
        if prepares or part is not ADAPTER:
            by_gang = part is not ADAPTER
            found.append(Mount(begun.claim_name, part.field, of_run=begun.name, part=part, by_gang=by_gang))
    if cache is not None:
        found.append(Mount(cache.claim_name, "spec.model.cache", writes=prepares))
    if not prepares:
        return tuple(found)
    evaluation = (spec.evaluation and spec.evaluation.datasets) or ()
    for field, datasets in (("spec.datasets", spec.datasets), ("spec.evaluation.datasets", evaluation)):
        for dataset in datasets:
            volume = dataset.source.volume
            if volume is not None:
                found.append(Mount(volume.claim_name, f"{field}[{dataset.name}].source.volume", by_gang=False))
    return tuple(found)


def claim_unusable(run: Run, _: datetime) -> Step | None:
    """Say why a claim cannot serve instead of letting pods hang on it."""
    if run.current_stage is None or run.current_child is not None:
        return None
    problem = _problem(run)
    if Stage.PREPARE in run.done and not run.observed.claim_exists:
        # A new, empty claim would lose the prepared data and every checkpoint without a word.
        problem = f"claim {run.job.workspace_claim} with the files of the run is gone; create a new QwenSFTJob"
    if not problem:
        return None
    return Step(
        held_phase(run), Reason.STORAGE_UNAVAILABLE, problem, run.status, warning=True, requeue_after=STORAGE_CHECK
    )


def storage_trouble(run: Run, now: datetime) -> str:
    """Return what keeps pods of the running attempt from their volumes, in a sentence, or ""."""
    problem = _problem(run)
    if problem:
        return problem
    for claim in run.observed.claims or ():
        if claim.phase == "Pending" and claim.trouble is not None and is_persistent(claim.trouble, now):
            return f"claim {claim.name} has no volume: {claim.trouble.reason}: {claim.trouble.message}"
    return ""


def one_node_hint(run: Run) -> str:
    """Return advice for a gang whose pods cannot all mount a claim, or "" when its claims serve several nodes."""
    narrow = [c.name for c in run.observed.claims or () if c.access_modes and not c.access_modes & _MANY_NODES]
    if not narrow or run.current_stage is not Stage.TRAIN or run.pods_of(Stage.TRAIN) == 1:
        return ""
    return (
        f"; claim {narrow[0]} is not ReadWriteMany, so only pods on one node can mount it: use a ReadWriteMany claim, "
        "or keep all pods on one node with spec.worker.nodeSelector or affinity"
    )


def kept_claim_warning(run: Run) -> Event | None:
    """Return what a claim that was there before the run does not have of what the template asks for.

    It is used all the same: an earlier run's rows and checkpoints may be on it, and what is needed is known by the end.
    """
    template, name = run.job.spec.storage.volume.claim_template, run.job.workspace_claim
    claim = next((c for c in run.observed.claims or () if c.name == name), None)
    if template is None or claim is None:
        return None
    wanted, path = run.job.spec.access_modes, "spec.storage.volume.claimTemplate"
    lacks = []
    if claim.size and parse_quantity(claim.size) < parse_quantity(template.size):
        lacks.append(f"it has {claim.size}, and {path} asks for {template.size}")
    if "ReadWriteMany" in wanted and claim.access_modes and not claim.access_modes & _MANY_NODES:
        lacks.append(f"it is {', '.join(sorted(claim.access_modes))}, and the spec asks for {', '.join(wanted)}")
    if template.storage_class_name not in (None, claim.storage_class):
        lacks.append(f"its class is {claim.storage_class or 'none'}, and {path} names {template.storage_class_name}")
    if not lacks:
        return None
    message = (
        f"claim {name} was there before the run, and is used as it is: {'; '.join(lacks)}. To get a new one, give the "
        "job another name, or delete job and claim with all that is on it. Only its size may be changed, if its class "
        f"allows that: kubectl edit pvc {name} -n {run.job.metadata.namespace}"
    )
    return Event("Warning", Reason.CLAIM_DIFFERS, message)


def _problem(run: Run) -> str:
    if run.observed.claims is None:
        return ""
    claims = {claim.name: claim for claim in run.observed.claims}
    storage, *others = mounts(run)
    if storage.claim not in claims and run.job.spec.storage.volume.claim_name is not None:
        return f"claim {storage.claim} does not exist; create it, or use spec.storage.volume.claimTemplate"
    for mount in others:
        if mount.claim not in claims and mount.part is not None:
            return (
                f"claim {mount.claim} with the {mount.part.what} of QwenSFTJob {mount.of_run}, which this run reads "
                f"({mount.field}), is gone; restore it, or create a new QwenSFTJob with another "
                f"spec.model.{mount.part.block}"
            )
        if mount.claim not in claims:
            return f"claim {mount.claim} does not exist; create it, or correct {mount.field}.claimName"
    problems = (
        _unfit(claims[m.claim], m, run.job.spec.distribution.nodes) for m in (storage, *others) if m.claim in claims
    )
    return next((problem for problem in problems if problem), "")


def _unfit(claim: ClaimView, mount: Mount, nodes: int) -> str:
    """Return why a claim that exists cannot serve, or "".

    ReadWriteOnce is no reason, also with several nodes: it binds all pods to one Kubernetes node, where they may be.
    """
    what = f"claim {claim.name} ({mount.field})"
    if claim.deleting:
        return f"{what} is being deleted; it goes when no pod mounts it any more"
    if claim.phase == "Lost":
        return f"{what} has lost its volume; restore that, or use another claim"
    if claim.block:
        return f"{what} is a raw block device; the run needs a claim with volumeMode Filesystem"
    if mount.writes and claim.access_modes == {"ReadOnlyMany"}:
        return f"{what} is read-only (ReadOnlyMany), and the run writes to it; use one that is ReadWriteMany"
    if mount.by_gang and nodes > 1 and claim.access_modes == {"ReadWriteOncePod"}:
        return f"{what} serves one pod only (ReadWriteOncePod); {nodes} nodes need ReadWriteMany"
    return ""
