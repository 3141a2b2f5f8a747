"""The estimate of a training in the words of the API: what it needs, whether that fits, and what to change if not.

The formulas stand in `memory`, what may be changed in `remedies`. The operator writes it into `status.estimate`, the
command line shows it before a job exists.
"""

from __future__ import annotations

from qwensft.api.v1alpha1 import Estimate, Spec
from qwensft.estimate.architectures import Architecture
from qwensft.estimate.memory import Footprint, footprint
from qwensft.estimate.remedies import more_accelerators_help, remedies

MARGIN = 1.2  # the formulas are up to 16 % below what was measured
_GIB = 2**30
_LONGEST_MESSAGE = 1024  # characters, by the API


def estimate(
    spec: Spec, model: Architecture, *, source: str, longest: int | None = None, memory: float | None = None
) -> Estimate:
    """Return the estimate of a training.

    Args:
        spec: What is trained, and how.
        model: Shape of the base model.
        source: Where that is known from, for the message.
        longest: Tokens of the longest example, where that is known.
        memory: Bytes of one accelerator, where that is known.
    """
    needed = footprint(spec, model, longest)
    if needed is None:
        return Estimate(message="no estimate: distribution.deepspeed.config is a configuration of your own")
    if spec.worker.accelerator.count == 0:
        host = MARGIN * needed.host
        return Estimate(
            host_memory_gi_b=_gib(host), message=f"needs about {_gib(host)} GiB per pod, reckoned from {source}"
        )
    device = MARGIN * needed.device
    message = f"needs about {_gib(device)} GiB per accelerator, reckoned from {source}: {_account(needed)}"
    fits = None
    if memory is not None:
        fits = device <= memory
        message += f"; it has {_gib(memory)} GiB"
        message += "" if fits else f". {_advice(spec, model, longest, memory)}"
    return Estimate(
        gpu_memory_gi_b=_gib(device),
        host_memory_gi_b=_gib(needed.host),
        accelerator_memory_gi_b=None if memory is None else _gib(memory),
        fits=fits,
        message=message[:_LONGEST_MESSAGE],
    )


def _account(needed: Footprint) -> str:
    parts = {
        "frozen weights": needed.weights,
        "trained weights and optimiser": needed.states,
        "activations": needed.activations,
        "other": needed.overhead,
    }
    margin = (MARGIN - 1) * needed.device
    listed = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
    return f"{listed}, margin {_gib(margin)}"


def _advice(spec: Spec, model: Architecture, longest: int | None, memory: float) -> str:
    def fits(changed: Spec) -> bool:
        needed = footprint(changed, model, longest)
        return needed is not None and MARGIN * needed.device <= memory

    found = remedies(spec, fits, longest)
    if not found:
        more = ", or more of them and distribution.deepspeed: {stage: 3}" if more_accelerators_help(spec, fits) else ""
        return f"Use accelerators with more memory{more}"
    return f"Create the job anew with {'; or '.join(found)}"


def _gib(size: float) -> float:
    return round(size / _GIB, 1)
