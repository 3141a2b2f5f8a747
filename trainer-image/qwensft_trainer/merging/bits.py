"""Numbers of PyTorch by their bits: whether they are the same, and how many representable ones lie between two."""

from __future__ import annotations

import torch

PIECE = 128 << 10
"""Numbers that are worked on at once: in float32 and a few of them they stay in a processor's cache."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number


def same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit by bit, with `other` rounded to the tensor's dtype: NaN may equal NaN, and 0 is not -0."""
    if tensor.shape != other.shape:
        return False
    pieces = (values.reshape(-1).split(PIECE) for values in (tensor, other))
    return all(torch.equal(_as_long(one), _as_long(two.to(tensor.dtype))) for one, two in zip(*pieces, strict=True))


def stored(values: torch.Tensor) -> torch.Tensor:
    """The numbers as integers, which compare many times faster than bfloat16, and as they are stored."""
    return values.contiguous().view(_INTEGERS[values.element_size()])


def units(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many representable numbers lie between, by their bits in order."""
    kind = _INTEGERS[one.element_size()]
    first, second = (_ordered(stored(values).long(), kind) for values in (one, other))
    return (first - second).abs()


def unit(values: torch.Tensor) -> torch.Tensor:
    """The distance of a number to the next larger one of its type."""
    kind = torch.finfo(values.dtype)
    exponent = torch.frexp(values.float().abs().clamp_min(kind.smallest_normal)).exponent
    return torch.ldexp(torch.full_like(values, kind.eps, dtype=torch.float32), exponent - 1)


def _as_long(values: torch.Tensor) -> torch.Tensor:
    """As integers of eight bytes, of which there are fewest to compare, where the numbers lie so that it goes."""
    width = values.element_size()
    if width * values.numel() % 8 or values.storage_offset() * width % 8:
        return stored(values)
    return values.view(torch.int64)


def _ordered(numbers: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    return torch.where(numbers < 0, torch.iinfo(kind).min - numbers, numbers)
