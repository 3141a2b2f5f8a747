"""Lengths are counted exactly: percentiles by nearest rank, truncation by what was kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.data.lengths import Lengths


def measure(full: int, kept: int | None = None, *, dataset: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "place": "file a.json, row 1",
        "full": full,
        "kept": full if kept is None else kept,
        "media_cut": False,
    } | more


def counted(*measures: dict[str, Any]) -> Lengths:
    lengths = Lengths()
    lengths.add(measures)
    return lengths


@given(values=st.lists(st.integers(1, 50), min_size=1), percent=st.sampled_from([50, 90, 99, 100]))
def test_a_percentile_is_a_length_that_occurs_by_nearest_rank(values: list[int], percent: int) -> None:
    expected = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    assert counted(*(measure(value) for value in values)).percentile(percent) == expected


def test_metrics_tell_lengths_before_and_tokens_after_the_cut() -> None:
    lengths = counted(measure(10), measure(20), measure(5000, 4096), measure(4096))
    assert lengths.metrics() == {
        "samples": 4,
        "tokens": 10 + 20 + 4096 + 4096,
        "truncatedSamples": 1,
        "lengthP50": 20,
        "lengthP90": 5000,
        "lengthP99": 5000,
        "lengthMax": 5000,
    }


def test_the_first_rows_that_lose_parts_of_images_are_remembered() -> None:
    lengths = counted(*(measure(9, 5, place=f"file b.json, row {number}", media_cut=True) for number in range(8)))
    assert lengths.cut_media == 8
    assert lengths.cut_media_rows[0] == "dataset a, file b.json, row 0 (9 tokens)"
    assert len(lengths.cut_media_rows) == 5


@given(values=st.lists(st.integers(1, 3000), max_size=60), outlier=st.integers(1, 10**7) | st.none())
def test_the_histogram_counts_every_row_once_in_few_bars(values: list[int], outlier: int | None) -> None:
    found = counted(*(measure(value) for value in [*values, *([outlier] if outlier else [])])).histogram()
    assert sum(found["counts"]) + found["longer"] == len(values) + bool(outlier)
    assert len(found["counts"]) <= 40
    for number, rows in enumerate(found["counts"]):
        low, high = number * found["width"], (number + 1) * found["width"]
        assert rows == sum(low <= value < high for value in [*values, *([outlier] if outlier else [])])


def test_one_long_row_does_not_squeeze_the_others_together() -> None:
    found = counted(*(measure(100 + number % 50) for number in range(500)), measure(100_000)).histogram()
    assert (found["width"], found["longer"]) == (4, 1)


@pytest.mark.parametrize("percent", [50, 99])
def test_nothing_has_no_length(percent: int) -> None:
    assert (Lengths().percentile(percent), Lengths().longest, Lengths().samples) == (0, 0, 0)
