"""What to change in a spec so that the training fits: changes that the API allows and of which the estimate says so.

Ordered by price: what costs only time comes before what trains something else.
ADR 0048 says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from qwensft.api.v1alpha1 import Spec

Change = dict[str, dict[str, Any]]
"""Fields to set, by block of the spec; None removes one."""

_MOST = 3
_SHORTEST = 512  # tokens; a lower limit would cut most examples short
_MANY_NODES = 1024  # the most that the API allows


def remedies(spec: Spec, fits: Callable[[Spec], bool], longest: int | None = None) -> list[str]:
    """Return up to three ways to write the spec that fit; [] when there is none.

    Args:
        spec: The spec that does not fit.
        fits: Says whether a changed one does.
        longest: Tokens of the longest example, where that is known.
    """
    groups = [*_same_result(spec), *_other_result(spec, longest)]
    alone = [next((way for way in group if _helps(spec, (way,), fits)), None) for group in groups]
    found = [_advice((way,)) for way in alone if way is not None]
    if found:
        return found[:_MOST]
    taken: tuple[Change, ...] = ()
    for way in (way for group in groups for way in group):
        if _changed(spec, (*taken, way)) is None:
            continue  # the API refuses it beside the others
        taken = (*taken, way)
        if _helps(spec, taken, fits):
            return [_advice(_needed(spec, taken, fits))]
    return []


def more_accelerators_help(spec: Spec, fits: Callable[[Spec], bool]) -> bool:
    """Whether the training fits when ZeRO-3 spreads it over as many accelerators as anybody has."""
    known = spec.distribution.deepspeed
    zero = {**(known.document() if known is not None else {}), "stage": 3}
    return _helps(spec, ({"distribution": {"nodes": _MANY_NODES, "deepspeed": zero}},), fits)


def _needed(spec: Spec, changes: tuple[Change, ...], fits: Callable[[Spec], bool]) -> tuple[Change, ...]:
    """Return the changes without those that the others make superfluous; the dearest go first."""
    for change in reversed(changes):
        fewer = tuple(other for other in changes if other is not change)
        if _helps(spec, fewer, fits):
            changes = fewer
    return changes


def _same_result(spec: Spec) -> Iterator[list[Change]]:
    """Yield changes that cost time only, each with its stronger forms."""
    training, deepspeed = spec.training, spec.distribution.deepspeed
    batch = training.per_device_train_batch_size
    if not training.gradient_checkpointing:
        yield [{"training": {"gradientCheckpointing": True}}]
    if batch > 1:
        steps = batch * training.gradient_accumulation_steps
        yield [{"training": {"perDeviceTrainBatchSize": 1, "gradientAccumulationSteps": steps}}]
    if not training.liger_kernel:
        yield [{"training": {"ligerKernel": True}}]
    sharded = []
    if spec.processes_per_node * spec.distribution.nodes > 1 and (deepspeed is None or deepspeed.stage != 3):
        sharded.append({"stage": 3})
    if not spec.tuning.uses_adapter:
        sharded.append({"stage": 3, "offloadOptimizer": True, "offloadParameters": True})
    yield [{"distribution": {"deepspeed": zero}} for zero in sharded]


def _other_result(spec: Spec, longest: int | None) -> Iterator[list[Change]]:
    """Yield changes that train on less, or train less; each with its stronger forms."""
    match spec.tuning.method:
        case "lora":
            yield [{"tuning": {"method": "qlora"}}]
        case "dora":
            yield [{"tuning": {"quantization": {"bits": 4}}}]
        case "full" | "freeze":
            yield [{"tuning": {"method": method, "freeze": None}} for method in ("lora", "qlora")]
    length = spec.training.cutoff_len if longest is None else min(spec.training.cutoff_len, longest)
    powers = (2**power for power in range(length.bit_length() - 1, 0, -1))
    yield [{"training": {"cutoffLen": cut}} for cut in powers if _SHORTEST <= cut < length]


def _helps(spec: Spec, changes: tuple[Change, ...], fits: Callable[[Spec], bool]) -> bool:
    changed = _changed(spec, changes)
    return changed is not None and fits(changed)


def _changed(spec: Spec, changes: tuple[Change, ...]) -> Spec | None:
    """Return the spec with the changes; None when the API refuses it, as another field stands against it."""
    document = spec.document()
    for block, fields in _together(changes).items():
        merged = document.get(block, {}) | fields
        document[block] = {name: value for name, value in merged.items() if value is not None}
    try:
        return Spec.model_validate(document)
    except ValidationError:
        return None


def _together(changes: tuple[Change, ...]) -> Change:
    """Return all changes as one; a later one wins over an earlier one of the same field."""
    together: Change = {}
    for change in changes:
        together |= {block: together.get(block, {}) | fields for block, fields in change.items()}
    return together


def _advice(changes: tuple[Change, ...]) -> str:
    settings = (
        f"{block}.{name}: {_yaml(value)}"
        for block, fields in _together(changes).items()
        for name, value in fields.items()
        if value is not None
    )
    return " and ".join(settings)


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
