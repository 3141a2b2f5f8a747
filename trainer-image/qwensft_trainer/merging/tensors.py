"""Compares the tensors of a merged model with what they must be, one at a time, and measures what rounding has left.

Untouched tensors are the base's, bit by bit. Touched ones are those of an independent path (reference.py): the nearest
numbers of their type to what that path computes in float32, or to what lies no further from it than the order of sums
explains.
ADR 0093 says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import weights
from qwensft_trainer.merging.reference import Error, Expected, Reference, Tensors
from qwensft_trainer.model import source as model_source

_PIECE = 32 << 10  # numbers compared at once: they stay in the processor's cache, and torch uses one thread for them
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number
_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass
class Compared:
    """Figures over all tensors. `kept` is the share of the training that rounding has left, None where nothing tells.

    It is the part of what training adds that is there after rounding: the sum of added · rounded over that of added².
    """

    tensors: int = 0
    changed: int = 0
    off: int = 0
    _added: float = 0.0
    _left: float = 0.0

    @property
    def kept(self) -> float | None:
        """See above."""
        return self._left / self._added if self._added else None


def compare(reference: Reference, merged: Path) -> Compared:
    """Compare all of them. Raises PermanentError MergeVerificationFailed that names the tensor."""
    _check_index(merged)
    found = Tensors(merged)
    try:
        _check_names(reference, found)
        total = Compared()
        for name in sorted(found.names):
            _compare(name, reference.expected(name), found.get(name), total)
    finally:
        found.close()
    if not total.changed:
        raise refused(
            "no tensor differs from the base: the merge did nothing. Either training changed nothing, or its change is "
            "below the precision of the merged dtype (then train longer, or set spec.merge.dtype to fp32)"
        )
    return total


def equally_rounded(expected: Expected, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as it must be, with the last places of the one that is there where that may go either way."""
    if expected.exact is None:
        return expected.rounded
    return torch.where(_units(tensor, expected.rounded) <= 1, tensor, expected.rounded)


def refused(what: str) -> PermanentError:
    """The error of a merged model that is not what it must be."""
    log(f"verification failed: {what}")
    return PermanentError("MergeVerificationFailed", f"The merged model was not published: {what}.")


def _check_index(merged: Path) -> None:
    """The index says of each tensor in which file it is; some servers read them by it, some read every file."""
    if odd := sorted({path.name for path in merged.glob("*.safetensors")} ^ set(model_source.weight_files(merged))):
        raise refused(f"the index and the files differ by {_listed(odd)}")
    index = files.read_json_object(merged / model_source.INDEX)
    if index is None:
        return
    held = {tensor.name: file.path.name for file in weights.read_model(merged) for tensor in file.tensors}
    told = index.get("weight_map", {})
    if wrong := sorted(name for name in held.keys() | told.keys() if held.get(name) != told.get(name)):
        raise refused(f"the index names {told.get(wrong[0])} for {wrong[0]}, which is in {held.get(wrong[0])}")


def _check_names(reference: Reference, found: Tensors) -> None:
    if missed := sorted(reference.missed):
        raise refused(f"training changed {_listed(missed)}, which no tensor of the base stands for")
    if left_out := sorted(reference.left_out):
        raise refused(f"the trained checkpoint holds no {_listed(left_out)}")
    if missing := sorted(reference.names - found.names):
        raise refused(f"{len(missing)} tensors are missing: {_listed(missing)}")
    if extra := sorted(found.names - reference.names):
        raise refused(f"{len(extra)} tensors are not the base's: {_listed(extra)}")


def _compare(name: str, expected: Expected, tensor: torch.Tensor, total: Compared) -> None:
    wanted = expected.rounded
    if tensor.dtype is not wanted.dtype:
        raise refused(
            f"{name} is {_NAMES.get(tensor.dtype, tensor.dtype)}, not {_NAMES.get(wanted.dtype, wanted.dtype)}"
        )
    if tensor.shape != wanted.shape:
        raise refused(f"{name} has shape {list(tensor.shape)}, not {list(wanted.shape)}")
    total.tensors += 1
    before = expected.before
    differs = before is None or not _same(tensor, before.to(tensor.dtype))
    total.changed += differs
    if differs or (before is not None and before.dtype is not tensor.dtype):
        _check_finite(name, tensor)
    if expected.exact is None:
        if not _same(tensor, wanted):
            _explain(name, expected, tensor)
        return
    off = [_off(part, total) for part in _parts(expected, tensor)]
    if worst := max((units for _, units in off), default=0):
        if not differs:
            raise refused(f"{name} is the base's, and training has changed it")
        raise refused(f"{name} is up to {worst} units in the last place away from base and adapter")
    total.off += sum(count for count, _ in off)


def _check_finite(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or not tensor.numel() or all(map(torch.isfinite, tensor.aminmax())):
        return
    if tensor.dtype is torch.float16 and not bool(torch.isnan(tensor).any()):
        raise refused(f"{name} holds values beyond the range of fp16: set spec.merge.dtype to bf16 or fp32")
    raise refused(f"{name} holds NaN or infinite values: training diverged; lower spec.training.learningRate")


def _explain(name: str, expected: Expected, tensor: torch.Tensor) -> None:
    before = expected.before
    if before is not None and _same(tensor, before.to(tensor.dtype)):
        raise refused(f"{name} is the base's, and training has changed it")
    if before is not None and _same(expected.rounded, before.to(expected.rounded.dtype)):
        raise refused(f"{name} differs from the base although training does not touch it")
    raise refused(f"{name} is not what was trained")


@dataclass(frozen=True)
class _Part:
    """Some rows of a touched tensor: as it is, and as it must be before and after rounding."""

    tensor: torch.Tensor
    rounded: torch.Tensor
    exact: torch.Tensor
    before: torch.Tensor
    error: Error


def _parts(expected: Expected, tensor: torch.Tensor) -> Iterator[_Part]:
    assert expected.exact is not None  # noqa: S101
    assert expected.before is not None  # noqa: S101
    assert expected.error is not None  # noqa: S101
    at_once = max(1, _PIECE // max(1, tensor[0].numel()))
    for first in range(0, tensor.shape[0], at_once):
        rows = slice(first, first + at_once)
        yield _Part(
            tensor=tensor[rows],
            rounded=expected.rounded[rows],
            exact=expected.exact[rows],
            before=expected.before[rows].float(),
            error=Error(expected.error.column[rows], expected.error.row, expected.error.relative[rows]),
        )


def _off(part: _Part, total: Compared) -> tuple[int, int]:
    """How many numbers are not the nearest, and by how many units at most where arithmetic does not explain it."""
    added, left = part.exact - part.before, part.tensor.float() - part.before
    total._added += float((added * added).sum())
    total._left += float((added * left).sum())
    rows, columns = (_bits(part.tensor) != _bits(part.rounded)).nonzero(as_tuple=True)
    if not len(rows):
        return 0, 0
    found, exact = part.tensor[rows, columns], part.exact[rows, columns]
    explained = part.error.column[rows] * part.error.row[columns] + part.error.relative[rows] * exact.abs()
    distance = (found.float() - exact).abs() - _unit(found) / 2
    # the least number is for products that are too small for float32
    if bool((distance <= explained + torch.finfo(torch.float32).tiny).all()):
        return len(rows), 0
    return len(rows), int(_units(found, part.rounded[rows, columns]).max())


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit by bit: no number equals NaN, and 0 equals -0."""
    if one.shape != other.shape or one.dtype is not other.dtype:
        return False
    return bool(torch.equal(_bits(one), _bits(other)))


def _bits(values: torch.Tensor) -> torch.Tensor:
    """The numbers as integers, which compare many times faster than bfloat16, and as they are stored."""
    return values.contiguous().view(_INTEGERS[values.element_size()])


def _units(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many representable numbers lie between, by their bits in order."""
    kind = _INTEGERS[one.element_size()]
    first, second = (_ordered(_bits(values).long(), kind) for values in (one, other))
    return (first - second).abs()


def _ordered(bits: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    return torch.where(bits < 0, torch.iinfo(kind).min - bits, bits)


def _unit(values: torch.Tensor) -> torch.Tensor:
    """The distance of a number to the next larger one of its type."""
    kind = torch.finfo(values.dtype)
    exponent = torch.frexp(values.float().abs().clamp_min(kind.smallest_normal)).exponent
    return torch.ldexp(torch.full_like(values, kind.eps, dtype=torch.float32), exponent - 1)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
