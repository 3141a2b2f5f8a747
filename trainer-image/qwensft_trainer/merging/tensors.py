"""Compares the tensors of a merged model with what they must be, some rows at a time, and measures what rounding left.

Untouched tensors are the base's, bit by bit. Touched ones are those of an independent path (reference.py): the nearest
numbers of their type to what that path computes in float32, or to what lies no further from it than the order of sums
explains.
ADRs 0093 and 0094 say why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import cpu_limit
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import bits, weights
from qwensft_trainer.merging.peft_layers import Error, Layer
from qwensft_trainer.merging.reference import Expected, Reference, Tensors, rows_of
from qwensft_trainer.model import source as model_source

_MOST_THREADS = 6
_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass
class Compared:
    """Figures of one tensor or many; `off` counts numbers that are not the nearest to base and adapter.

    `added` is the sum of squares of what training adds, `left` that of added · rounded.
    """

    tensors: int = 0
    changed: int = 0
    off: int = 0
    added: float = 0.0
    left: float = 0.0

    @property
    def kept(self) -> float | None:
        """The part of what training adds that is there after rounding; None where nothing tells."""
        return self.left / self.added if self.added else None


def compare(reference: Reference, merged: Path) -> Compared:
    """Compare all of them. Raises PermanentError MergeVerificationFailed that names the tensor."""
    _check_index(merged)
    with Tensors(merged) as found:
        _check_names(reference, found)
        total = _sum(_of_each(reference, found))
    if not total.changed:
        raise refused(
            "no tensor differs from the base: the merge did nothing. Either training changed nothing, or its change is "
            "below the precision of the merged dtype (then train longer, or set spec.merge.dtype to fp32)"
        )
    return total


def _of_each(reference: Reference, found: Tensors) -> Iterator[Compared]:
    """In the order of the names, several tensors at once, each by one thread."""

    def compared(name: str) -> Compared:
        return _compare(name, reference.expected(name), found.get(name))

    before, threads = torch.get_num_threads(), min(cpu_limit(), _MOST_THREADS)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(compared, sorted(found.names))
    finally:
        torch.set_num_threads(before)


def _sum(parts: Iterable[Compared]) -> Compared:
    total = Compared()
    for part in parts:
        for field in fields(Compared):
            setattr(total, field.name, getattr(total, field.name) + getattr(part, field.name))
    return total


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


def _compare(name: str, expected: Expected, tensor: torch.Tensor) -> Compared:
    if tensor.dtype is not expected.dtype:
        raise refused(
            f"{name} is {_NAMES.get(tensor.dtype, tensor.dtype)}, not {_NAMES.get(expected.dtype, expected.dtype)}"
        )
    if tensor.shape != expected.source.shape:
        raise refused(f"{name} has shape {list(tensor.shape)}, not {list(expected.source.shape)}")
    if expected.layer is None:
        return _copied(name, expected, tensor)
    return _merged(name, expected.layer, expected.source, tensor)


def _copied(name: str, expected: Expected, tensor: torch.Tensor) -> Compared:
    """A tensor that no arithmetic has changed: it is the base's, or one that was trained."""
    before = expected.before
    is_right = bits.same(tensor, expected.source)
    differs = not is_right if before is expected.source else before is None or not bits.same(tensor, before)
    if differs or (before is not None and before.dtype is not tensor.dtype):
        _check_finite(name, tensor)
    if not is_right:
        raise _explained(name, expected, differs=differs)
    return Compared(tensors=1, changed=int(differs))


def _merged(name: str, layer: Layer, before: torch.Tensor, tensor: torch.Tensor) -> Compared:
    """A tensor that an adapter has changed, some rows at a time."""
    total, worst, differs = Compared(tensors=1), 0, False
    for rows in rows_of(tensor):
        was, now = before[rows].float(), tensor[rows]
        exact = layer.merge(rows, was.clone())
        if not torch.equal(bits.stored(now), bits.stored(exact.to(now.dtype))):
            count, units = _off(now, exact, layer.error)
            total.off += count
            worst = max(worst, units)
        differs = differs or not bits.same(now, before[rows])
        added, left = exact.sub_(was).view(-1), now.float().sub_(was).view(-1)
        total.added += float(torch.dot(added, added))
        total.left += float(torch.dot(added, left))
    total.changed = int(differs)
    if not math.isfinite(total.left):  # as one number makes it that is not
        _check_finite(name, tensor)
    if worst and not differs:
        raise refused(f"{name} is the base's, and training has changed it")
    if worst:
        raise refused(f"{name} is up to {worst} units in the last place away from base and adapter")
    return total


def _off(tensor: torch.Tensor, exact: torch.Tensor, error: Error) -> tuple[int, int]:
    """How many numbers are not the nearest, and by how many units at most where arithmetic does not explain it."""
    rounded = exact.to(tensor.dtype)
    rows, columns = (bits.stored(tensor) != bits.stored(rounded)).nonzero(as_tuple=True)
    found, near = tensor[rows, columns], exact[rows, columns]
    explained = error.column[rows] * error.row[columns] + error.relative[rows] * near.abs()
    distance = (found.float() - near).abs() - bits.unit(found) / 2
    # the least number is for products that are too small for float32
    if bool((distance <= explained + torch.finfo(torch.float32).tiny).all()):
        return len(rows), 0
    return len(rows), int(bits.units(found, rounded[rows, columns]).max())


def _check_finite(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or all(map(_is_finite, tensor.reshape(-1).split(bits.PIECE))):
        return
    if tensor.dtype is torch.float16 and not bool(torch.isnan(tensor).any()):
        raise refused(f"{name} holds values beyond the range of fp16: set spec.merge.dtype to bf16 or fp32")
    raise refused(f"{name} holds NaN or infinite values: training diverged; lower spec.training.learningRate")


def _is_finite(numbers: torch.Tensor) -> bool:
    """Of few numbers. Their squares' sum tells, unless it is too large itself."""
    widened = numbers.float()
    return math.isfinite(torch.dot(widened, widened)) or bool(torch.isfinite(numbers).all())


def _explained(name: str, expected: Expected, *, differs: bool) -> PermanentError:
    if not differs:
        return refused(f"{name} is the base's, and training has changed it")
    if expected.before is not None and bits.same(expected.source.to(expected.dtype), expected.before):
        return refused(f"{name} differs from the base although training does not touch it")
    return refused(f"{name} is not what was trained")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
