"""The merge benchmark's arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.merge import figures


def run(name: str, seconds: float, peak: int = 100) -> dict[str, Any]:
    moved = dict.fromkeys(("askedRead", "askedWritten", "diskRead", "diskWritten"), 0)
    return {"name": name, "seconds": seconds, "cpuSeconds": 1.0, "peakMiB": peak, "anonymousMiB": 1, "steps": {},
            "cache": "dropped", **moved}  # fmt: skip


def size(billions: str, scale: float) -> dict[str, Any]:
    """10 s of imports in the engine and in each level; 1 GB copied per s, half of that where it is touched."""
    times = {"export": 100, "streaming": 10 + 5 * scale, "tensors": 10 + 6 * scale, "full": 10 + 20 * scale,
             "llamafactory": 200, "copied": 3 * scale, "touched": 4 * scale}  # fmt: skip
    runs = [run(name, seconds) for name, seconds in times.items()]
    return {"size": billions, "bytes": 3e9 * scale, "touchedBytes": 2e9 * scale, "runs": runs}


LARGEST = {"size": "72", "bytes": 150e9, "touchedBytes": 140e9}


def test_the_fastest_run_counts_and_the_highest_peak() -> None:
    best = figures.best_of({"runs": [run("export", 4.0, peak=7), run("export", 3.0, peak=5)]})
    assert (best["export"]["seconds"], best["export"]["peakMiB"]) == (3.0, 7)


def test_a_level_is_told_alone_and_with_the_engine() -> None:
    best = figures.best_of(size("3", 1))
    assert best["streaming+full"]["seconds"] == best["streaming"]["seconds"] + best["full"]["seconds"]


def test_ratios_are_to_the_bare_export() -> None:
    line = next(line for line in figures.report({"sizes": [size("3", 2)], "largest": LARGEST}).splitlines()
                if "verification none" in line and "streaming" in line)  # fmt: skip
    assert line.endswith("| 0.20 | 1.00 |")


@pytest.mark.parametrize("sizes", [[size("3", 2)], [size("0.5", 1), size("3", 2)]])
def test_the_largest_model_takes_what_its_bytes_take(sizes: list[dict[str, Any]]) -> None:
    told = figures.report({"sizes": sizes, "largest": LARGEST}).splitlines()[-1]
    assert told.startswith("EXTRAPOLATED to 72 B (150 GB), not measured: engine streaming 5 min")  # 10 + 10 + 280 s
    assert ("verification tensors 5 min" in told) == (len(sizes) > 1)  # 10 + 300 s
