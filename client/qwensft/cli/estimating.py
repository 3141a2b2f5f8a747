"""The memory that a job needs, as `estimate` and `check` show it. Pure."""

from __future__ import annotations

from qwensft.api.v1alpha1 import Estimate, Spec, parse_quantity
from qwensft.cli.output import Paint, columns
from qwensft.estimate.architectures import Architecture, known
from qwensft.estimate.memory import Footprint, footprint
from qwensft.estimate.verdict import MARGIN, estimate

_GIB = 2**30


def estimated(spec: Spec, memory: float | None = None) -> Estimate:
    """Return the estimate of a job, by its model's name.

    Args:
        spec: The job's spec.
        memory: Bytes of one accelerator. Default: what the spec says.
    """
    model = known(spec.model.name)
    if model is None:
        return Estimate(
            message=f"no estimate: the name {spec.model.name} tells no size that is known; of a Qwen model write its "
            "hub's name, such as Qwen/Qwen3-8B; of others the run estimates it once it has read the model"
        )
    return estimate(spec, model, source="the model's name", memory=memory or memory_in(spec))


def memory_in(spec: Spec) -> float | None:
    """Return the bytes of one accelerator as the spec says them."""
    given = spec.worker.accelerator.memory
    return None if given is None else float(parse_quantity(given))


def text(name: str, spec: Spec, found: Estimate, paint: Paint) -> str:
    """Return the estimate as a table, with the verdict below it."""
    model = known(spec.model.name)
    needed = footprint(spec, model) if model is not None else None
    lines = [paint("bold", name)]
    if model is None or needed is None:
        return "\n".join([*lines, f"  {found.message}"])
    lines += [f"  {line}" for line in columns(_parts(spec, model, needed), gap=3)]
    return "\n".join([*lines, f"  {verdict(found, paint)}"])


def _parts(spec: Spec, model: Architecture, needed: Footprint) -> list[list[str]]:
    head = [["model", f"{spec.model.name}, {model.parameters / 1e9:.1f} billion parameters"], ["method", _method(spec)]]
    if spec.worker.accelerator.count == 0:
        return [*head, ["memory of a pod", _gib(MARGIN * needed.host)]]
    sizes = {
        "frozen weights": needed.weights,
        "trained weights, optimiser": needed.states,
        "activations": needed.activations,
        "context, libraries": needed.overhead,
        "margin": (MARGIN - 1) * needed.device,
    }
    rows = [[part, _gib(size)] for part, size in sizes.items() if size]
    return [
        *head,
        *rows,
        ["each accelerator", _gib(MARGIN * needed.device)],
        ["host memory of a pod", _gib(needed.host)],
    ]


def _method(spec: Spec) -> str:
    training, where = spec.training, spec.worker.accelerator
    processes = spec.processes_per_node * spec.distribution.nodes
    batch = f"{training.per_device_train_batch_size} × {training.cutoff_len} tokens"
    return f"{spec.tuning.method}, {batch}, {processes} × {where.resource if where.count else 'CPU'}"


def verdict(found: Estimate, paint: Paint) -> str:
    """Return in a line whether it fits, and what to change if it does not."""
    has, needs = found.accelerator_memory_gi_b, found.gpu_memory_gi_b
    if found.fits is None:
        if needs is None:
            return found.message or ""
        return "fits? tell the accelerator: --gpu H100, or worker.accelerator.memory in the job"
    if found.fits:
        return f"{paint('green', 'fits')} in the {has:.1f} GiB of an accelerator"
    advice = (found.message or "").partition(" GiB. ")[2]
    return f"{paint('red', 'does not fit')} in the {has:.1f} GiB of an accelerator. {advice}"


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB".rjust(11)
