"""Weights as float32 and back: bfloat16 by its bits, which numpy does not know, float16 and float32 by numpy.

Rounding is to the nearest, ties to even, as every library and processor does it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_FORMATS = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


class NotFiniteError(ValueError):
    """A number that is none, or that the type has no room for."""


def to_float32(stored: bytes, dtype: str) -> Array:
    """The numbers of BF16, F16 or F32 bytes; shape [n]. The array may be written to."""
    numbers = np.frombuffer(stored, _FORMATS[dtype])
    if dtype == "BF16":
        widened = numbers.astype(np.uint32)
        widened <<= 16
        return widened.view(np.float32)
    return numbers.astype(np.float32)


def from_float32(values: Array, dtype: str) -> memoryview:
    """The bytes of values rounded to BF16, F16 or F32. `values` is used up: it holds anything afterwards.

    Raises NotFiniteError for NaN and infinities, and for what is beyond the range of the type.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError("it holds NaN or infinite values")
    if dtype == "BF16":
        rounded = _upper_half(values.reshape(-1).view(np.uint32))
        if ((rounded & 0x7F80) == 0x7F80).any():
            raise NotFiniteError("it holds values beyond the range of bf16")
        return rounded.data.cast("B")
    with np.errstate(over="ignore"):
        stored = values.reshape(-1).astype(_FORMATS[dtype], copy=False)
    if dtype == "F16" and not np.isfinite(stored).all():
        raise NotFiniteError("it holds values beyond the range of fp16: set spec.merge.dtype to bf16 or fp32")
    return np.ascontiguousarray(stored).data.cast("B")


def _upper_half(bits: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Round away the lower 16 bits: add half of the last bit that stays, less one where that bit is 0."""
    last = bits >> 16
    last &= 1
    last += 0x7FFF
    bits += last
    bits >>= 16
    return bits.astype("<u2")
