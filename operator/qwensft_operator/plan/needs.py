"""The facts that a decision about a run needs, beyond the run itself and its child Jobs.

Stated here in one place, so that the runtime reads these and no more: a run that is merely going costs next to nothing.
ADR 0049 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.estimate import memory_label
from qwensft_operator.plan.references import references
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.startup import STARTING
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.plan.volumes import mounts

SCRAPED = frozenset({Stage.TRAIN, Stage.MERGE})
"""Stages whose first pod tells figures while it runs."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be read for one decision. Nothing of a run that has ended."""

    claims: tuple[str, ...] = ()  # names, in the order of the spec
    config_maps: tuple[str, ...] = ()  # names of those that the spec names, with their keys
    node_label: str | None = None  # of the nodes whose labels hold their accelerators' memory
    pods: ChildJob | None = None  # the child Job whose pods
    figures: ChildJob | None = None  # the Job whose first pod is scraped
    leftovers: bool = False  # whether an attempt may start, beside which nothing else of the run's name may be alive


def needs_of(run: Run) -> Needs:
    """Return what a decision about the run needs; `run` holds the job and its child Jobs, and may hold no more."""
    stage, child = run.current_stage, run.current_child
    if stage is None:
        return Needs()
    up = child is not None and run.is_up(child) and not run.is_through(child)
    return Needs(
        claims=() if up else tuple(dict.fromkeys(mount.claim for mount in mounts(run))),
        config_maps=_config_maps(run, stage),
        node_label=_node_label(run, stage),
        pods=None if up else _pods(run),
        figures=child if up and stage in SCRAPED else None,
        leftovers=_may_start(run),
    )


def needs_events(manifest: dict[str, Any]) -> bool:
    """Whether only a pod's events can tell what it waits for: it has a node, but its containers are not created."""
    status = manifest.get("status") or {}
    waiting = [(c.get("state") or {}).get("waiting") for c in status.get("containerStatuses") or ()]
    creating = all(w is not None and w.get("reason", "") in STARTING for w in waiting)
    return bool(manifest["spec"].get("nodeName")) and status.get("phase", "Pending") == "Pending" and creating


def _config_maps(run: Run, stage: Stage) -> tuple[str, ...]:
    """Those that the next Job's pods need: only a pass that may start a Job reads them, as each may hold a MiB."""
    if run.current_child is not None or run.job.spec.run_policy.suspend:
        return ()
    return tuple(dict.fromkeys(r.name for r in references(run.job, stage) if r.kind == "ConfigMap"))


def _may_start(run: Run) -> bool:
    """Whether this pass may start an attempt; that of the next stage follows in the pass that sees one complete."""
    child = run.current_child
    return not run.job.spec.run_policy.suspend and (child is None or child.state is JobState.COMPLETE)


def _node_label(run: Run, stage: Stage) -> str | None:
    """None where the spec gives the memory, where there are no accelerators, or where the estimate is made already."""
    accelerator = run.job.spec.worker.accelerator
    unknown = accelerator.count > 0 and accelerator.memory is None and stage is Stage.PREPARE
    return memory_label(accelerator.resource) if unknown else None


def _pods(run: Run) -> ChildJob | None:
    """A child that ended unrecorded, or one that is not fully ready; before it exists: an earlier one in its way."""
    return run.current_child or next(iter(run.active_children()), None)
