"""Weights are rounded as every library rounds them, and what is no number is never written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.merging.numbers import NotFiniteError, from_float32, to_float32

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127)


def nearest_bf16(value: float) -> float:
    """By distance, among the two neighbours; the even one of two that are equally far."""
    bits = int(np.float32(value).view(np.uint32))
    below, above = bits >> 16, (bits >> 16) + 1
    low, high = (float(np.uint32(half << 16).view(np.float32)) for half in (below, above))
    if abs(value - low) == abs(high - value):
        return low if below % 2 == 0 else high
    return low if abs(value - low) < abs(high - value) else high


@given(st.lists(FINITE, min_size=1, max_size=50))
def test_bf16_is_the_nearest(values: list[float]) -> None:
    stored = from_float32(np.array(values, np.float32), "BF16")
    assert [float(value) for value in to_float32(bytes(stored), "BF16")] == [nearest_bf16(value) for value in values]


@given(st.binary(min_size=2, max_size=40).filter(lambda raw: len(raw) % 2 == 0))
def test_bf16_survives(raw: bytes) -> None:
    values = to_float32(raw, "BF16")
    if np.isfinite(values).all():
        assert bytes(from_float32(values, "BF16")) == raw


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_other_types_survive(dtype: str) -> None:
    raw = np.array([0.5, -2.0, 0.0, 6e-5], "<f2" if dtype == "F16" else "<f4").tobytes()
    assert bytes(from_float32(to_float32(raw, dtype), dtype)) == raw


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        from_float32(np.array([1.0, value], np.float32), dtype)


def test_what_a_type_has_no_room_for_is_refused() -> None:
    with pytest.raises(NotFiniteError, match="beyond the range of fp16"):
        from_float32(np.array([70000.0], np.float32), "F16")
    with pytest.raises(NotFiniteError, match="beyond the range of bf16"):
        from_float32(np.array([np.finfo(np.float32).max], np.float32), "BF16")
