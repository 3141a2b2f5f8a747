"""Scales hold all values, and their numbers can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.reporting import scales
from qwensft_trainer.reporting.scales import Scale

LOSSES = st.lists(st.floats(min_value=-3.5e38, max_value=3.5e38, allow_subnormal=False), min_size=1, max_size=20)
STEPS = st.lists(st.integers(0, 2**53), min_size=1, max_size=20)


@given(LOSSES)
def test_every_value_is_between_the_edges_and_no_two_ticks_read_alike(values: list[float]) -> None:
    scale = scales.of_values(values)
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    _readable(scale)


@given(STEPS)
def test_every_step_is_between_the_edges_and_ticks_are_whole(steps: list[int]) -> None:
    scale = scales.of_steps(steps)
    assert all(-1e-9 <= scale.place(step) <= 1 + 1e-9 for step in steps)
    assert all(tick == int(tick) for tick in scale.ticks)
    _readable(scale)


def _readable(scale: Scale) -> None:
    texts = [scale.text(tick) for tick in scale.ticks]
    assert 1 <= len(texts) <= 13
    assert all(-1e-9 <= scale.place(tick) <= 1 + 1e-9 for tick in scale.ticks)
    if len(texts) > 1 and (scale.logarithmic or 1e-6 <= scale.ticks[1] - scale.ticks[0] < 1e9):
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.51, 17.48], ["0", "5", "10", "15", "20"]),
        ([1.21, 1.37], ["1.20", "1.25", "1.30", "1.35", "1.40"]),
        ([2.0], ["1.0", "1.5", "2.0", "2.5", "3.0"]),
        ([0.0], ["−0.6", "−0.4", "−0.2", "0.0", "0.2", "0.4", "0.6"]),
    ],
)
def test_ticks_are_round_numbers(values: list[float], texts: list[str]) -> None:
    scale = scales.of_values(values)
    assert [scale.text(tick) for tick in scale.ticks] == texts


def test_a_spike_far_above_the_rest_makes_the_scale_logarithmic() -> None:
    scale = scales.of_values([0.4, 0.5, 2000.0])
    assert scale.logarithmic
    assert [scale.text(tick) for tick in scale.ticks] == ["0.1", "1", "10", "100", "1,000", "10,000"]
    assert scale.place(10.0) == pytest.approx(0.4)


def test_one_step_stands_in_the_middle() -> None:
    scale = scales.of_steps([7])
    assert (scale.place(7), scale.ticks) == (0.5, (7,))
