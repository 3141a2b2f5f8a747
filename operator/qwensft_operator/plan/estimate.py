"""`status.estimate`: the memory that the training is expected to need, and whether the accelerators have it.

Made from the model's name while the prepare stage runs, and once more, for good, from what that stage found in the
model and the data. What is estimated, and said of it, is `qwensft.estimate`'s part.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwensft.api.v1alpha1 import Estimate, Reason, Spec, Stage, parse_quantity, with_defaults
from qwensft.estimate.architectures import described, known
from qwensft.estimate.verdict import estimate
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Event, NodeView

_GIB = 2**30
_LARGEST = 2.0**63  # the greatest quantity in Kubernetes


def estimate_of(run: Run) -> Estimate | None:
    """Return the next `status.estimate`; once the prepare stage is done and harvested it stays as it is."""
    recorded = run.status.estimate
    if run.finished or (Stage.PREPARE in run.done and Stage.PREPARE not in run.just_done):
        return recorded
    spec = run.job.spec
    model, source = known(spec.model.name), "the model's name"
    if run.prepared_model is not None and (found := described(run.prepared_model, spec.model.name)) is not None:
        model, source = found, "the model's files"
    if model is None:
        if Stage.PREPARE in run.done:
            return Estimate(message="no estimate: neither the model's name nor its files tell its size")
        return Estimate(message="the name tells no size; estimated when the prepare stage has read the model")
    longest = run.status.dataset.length_max if run.status.dataset is not None else None
    # An autoscaler takes nodes away while nothing needs them; what they had is still true.
    placed = spec.replace(worker=with_defaults(spec.worker, run.observed.worker_defaults))
    memory = accelerator_memory(placed, run.observed.nodes)
    if memory is None and recorded is not None and recorded.accelerator_memory_gi_b is not None:
        memory = recorded.accelerator_memory_gi_b * _GIB
    return estimate(spec, model, source=source, longest=longest, memory=memory)


def warning(before: Estimate | None, now: Estimate | None) -> Event | None:
    """Return the event that tells, once, that the training will not fit."""
    if now is None or now.fits is not False or (before is not None and before.fits is False):
        return None
    return Event("Warning", Reason.ESTIMATED_OUT_OF_MEMORY, now.message or "")


def accelerator_memory(spec: Spec, nodes: Iterable[NodeView]) -> float | None:
    """Return the bytes of one accelerator: as given, else the least that a node has on which the pods may run.

    Taints are not looked at, as clusters add tolerations to pods by themselves. What a required node affinity picks is
    not judged: then the memory is unknown.
    """
    accelerator = spec.worker.accelerator
    if accelerator.memory is not None:
        return min(float(parse_quantity(accelerator.memory)), _LARGEST)
    picked = spec.worker.affinity.node_affinity if spec.worker.affinity else None
    if picked is not None and picked.required_during_scheduling_ignored_during_execution is not None:
        return None
    wanted = spec.worker.node_selector or {}
    sizes = [
        float(size) * 2**20
        for node in nodes
        if wanted.items() <= node.labels.items()
        and _number(node.labels.get(f"{accelerator.resource}.count"), accelerator.count) >= accelerator.count
        and (size := _number(node.labels.get(memory_label(accelerator.resource)), 0)) > 0
    ]
    return min(sizes, default=None)


def memory_label(resource: str) -> str:
    """Return the node label with the memory of one device in MiB, as NVIDIA's GPU feature discovery sets it."""
    return f"{resource}.memory"


def _number(label: str | None, otherwise: int) -> int:
    return int(label) if label is not None and label.isdecimal() else otherwise
