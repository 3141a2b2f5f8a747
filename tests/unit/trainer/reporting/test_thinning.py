"""A thinned curve has few points, and every extreme."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.reporting.losses import Point
from qwensft_trainer.reporting.thinning import thinned

VALUES = st.lists(st.floats(min_value=-10, max_value=10) | st.just(math.nan) | st.just(math.inf), max_size=200)


def test_a_short_curve_is_left_alone() -> None:
    points = [Point(step, 1.0) for step in range(30)]
    assert thinned(points, 10) == points


def test_a_hundred_thousand_steps_keep_their_spike_their_dip_and_their_ends() -> None:
    points = [Point(step, 1.0 + step % 7 / 100) for step in range(100_000)]
    points[54_321], points[77_777], points[12_345] = Point(54_321, 90.0), Point(77_777, -3.0), Point(12_345, math.nan)
    kept = thinned(points, 300)
    assert len(kept) <= 3 * 300 + 2
    assert {points[0], points[-1], points[54_321], points[77_777], points[12_345]} <= set(kept)


@given(VALUES, st.integers(1, 20))
def test_order_bounds_and_extremes_hold_for_any_curve(values: list[float], stretches: int) -> None:
    points = [Point(step, value) for step, value in enumerate(values)]
    kept = thinned(points, stretches)
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    assert len(kept) <= 3 * stretches + 2
    finite = [point.value for point in points if point.finite]
    left = [point.value for point in kept if point.finite]
    if finite:
        assert (min(left), max(left)) == (min(finite), max(finite))
    assert any(not point.finite for point in kept) == any(not point.finite for point in points)
