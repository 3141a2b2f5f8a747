"""The tables of the benchmark of starts, from what the measuring script prints."""

from __future__ import annotations

from typing import Any

from benchmarks.startup import figures


def pair(part: str, theirs: str, ours: str, *seconds: tuple[float, float]) -> list[dict[str, Any]]:
    """Rounds of a part; CPU seconds are half of the seconds."""
    return [
        {"part": part, "found": {theirs: {"seconds": one, "cpu": one / 2}, ours: {"seconds": other, "cpu": other / 2}}}
        for one, other in seconds
    ]


def test_the_least_of_the_rounds_is_told_and_the_median_of_their_ratios() -> None:
    table = figures.table(pair("prepare", "before", "present", (10.0, 5.0), (20.0, 8.0), (12.0, 9.0)))
    assert "| before | 10.00 | 5.00 |" in table
    assert "| present | 5.00 | 2.50 |" in table
    assert "| ratio, median of 3 | 0.500 | 0.500 |" in table


def test_a_step_is_told_in_tenths_of_a_millisecond() -> None:
    assert "| ours | 0.1234 | 0.0617 |" in figures.table(pair("steps", "bare", "ours", (0.12, 0.1234)))


def test_the_parts_of_the_faster_start_are_told() -> None:
    parts = {f"{name}_seconds": 1.0 for name in figures._PARTS}
    rounds = pair("start", "bare", "ours", (30.0, 20.0), (30.0, 10.0))
    for number, one in enumerate(rounds):
        one["found"]["ours"]["parts"] = parts | {
            "checks_seconds": float(number),
            "started_timestamp_seconds": 100.0, "training_timestamp_seconds": 107.0 + number,
        }  # fmt: skip
    assert "checks 1.00, gang 1.00" in figures.table(rounds)
    assert "7.00 of 8.00 until the first step began" in figures.table(rounds)


def test_what_was_compiled_is_counted() -> None:
    rounds = pair("attempts", "first", "second", (10.0, 9.0))
    rounds[0]["found"]["first"]["compiled"], rounds[0]["found"]["second"]["compiled"] = ["triton/a"], []
    assert "1 by the first, 0 by the second" in figures.table(rounds)
