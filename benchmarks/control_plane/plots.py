"""`python -m benchmarks.control_plane.plots FIGURES.json FOLDER`: draws what the benchmark has measured, as SVGs.

FIGURES.json is what `python -m benchmarks.control_plane` writes, or a part of it: what is missing is not drawn. The
figures are those of the tables: the best round of a load. For each drawing a line of Markdown is printed, with the
drawing in words, for docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.control_plane import figures
from benchmarks.control_plane.drawing import Chart, Column, Part

_CONTESTANTS = {
    figures.FLOOR_A: "grey",
    figures.FLOOR_B: "grey",
    figures.OURS: "blue",
    figures.TRAINER: "orange",
}
_PROCESSES = {"own": "violet", "apiserver": "green", "etcd": "yellow"}
_LEGEND = {"violet": "contestant", "green": "API server", "yellow": "etcd"}
_BURSTS = "runs created at once"

_Load = Mapping[str, Any]
_Groups = dict[str, tuple[Column, ...]]


def main() -> None:
    """Write the SVGs, print how a page beside the folder names them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane.plots")
    parser.add_argument("figures", type=Path, help="what the benchmark has written")
    parser.add_argument("folder", type=Path, help="where the SVGs are written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts(json.loads(options.figures.read_text())).items():
        (options.folder / name).write_text(chart.svg())
        print(f"![{chart.description()}]({options.folder.name}/{name})\n")


def charts(found: Mapping[str, Any]) -> dict[str, Chart]:
    """The charts by the names of their files; none for what was not measured."""
    machine = found["machine"]
    foot = f"commit {machine['commit']}, {machine['cpus']} CPUs ({machine['model']})"
    drawn = {
        "control-plane-throughput.svg": Chart(
            title="Runs that have their Job and are told of, in a burst",
            upwards="runs a second",
            across=_BURSTS,
            form="{:.1f}",
            groups=_bursts(found, lambda load: _bar(load["name"], load["runsPerSecond"])),
            foot=foot,
        ),
        "control-plane-latency.svg": Chart(
            title="How long until the status tells, p50 to p99",
            upwards="seconds",
            across="rate at which runs come, until the Job is told; a pod's success",
            form="{:.2f}",
            groups=_rates(found) | _ends(found),
            foot=foot,
        ),
        "control-plane-cpu.svg": Chart(
            title="CPU time that a run costs in a burst",
            upwards="milliseconds a run",
            across=_BURSTS,
            form="{:.0f}",
            groups=_bursts(found, _processes),
            foot=foot,
            legend=_LEGEND,
        ),
        "control-plane-memory.svg": Chart(
            title="Resident memory",
            upwards="MB",
            across="number of runs; at once and at a restart the peak",
            form="{:.0f}",
            groups=_memory(found),
            foot=foot,
            slot=90,
        ),
    }
    return {name: chart for name, chart in drawn.items() if chart.groups}


def _bar(name: str, value: float) -> Column:
    return Column(name, (Part(0, value, _CONTESTANTS[name]),))


def _range(measured: Mapping[str, Any]) -> Column:
    name = measured["name"]
    return Column(name, (Part(measured["p50"], measured["p99"], _CONTESTANTS[name]),))


def _processes(load: _Load) -> Column:
    parts, low = [], 0.0
    for process, colour in _PROCESSES.items():
        high = low + load["cpuSeconds"][process] / load["count"] * 1000
        parts.append(Part(low, high, colour))
        low = high
    return Column(load["name"], tuple(parts))


def _bursts(found: Mapping[str, Any], column: Callable[[_Load], Column]) -> _Groups:
    loads = figures.best_loads(found, rate=None)
    return {f"{count:,}": tuple(map(column, _in_turn(loads, count))) for count in sorted({count for count, _ in loads})}


def _rates(found: Mapping[str, Any]) -> _Groups:
    groups = {}
    for rate in sorted({load["rate"] for load in found["loads"] if load["rate"]}):
        loads = figures.best_loads(found, rate=rate)
        (count,) = {count for count, _ in loads}
        groups[f"{rate:g} runs/s"] = tuple(map(_range, _in_turn(loads, count)))
    return groups


def _ends(found: Mapping[str, Any]) -> _Groups:
    ends = found.get("ends")
    return {"pod's success": tuple(map(_range, ends))} if ends else {}


def _memory(found: Mapping[str, Any]) -> _Groups:
    """Of all processes of a contestant, before and during the largest burst; in the scenes the operator is alone."""
    bursts = figures.best_loads(found, rate=None)
    largest = max((count for count, _ in bursts), default=0)
    loads = [load for load in _in_turn(bursts, largest) if "restMB" in load]
    groups = {
        "at rest": tuple(_bar(load["name"], sum(load["restMB"].values())) for load in loads),
        f"{largest:,} at once": tuple(_bar(load["name"], sum(load["peakMB"].values())) for load in loads),
    }
    for scene, title, key in (
        ("live", "{count:,} live", "residentMB"),
        ("finished", "{count:,} finished", "residentMB"),
        ("restart", "restart, {count:,}", "peakMB"),
    ):
        if measured := found.get(scene):
            groups[title.format_map(measured)] = (_bar(figures.OURS, measured[key]),)
    return {title: columns for title, columns in groups.items() if columns}


def _in_turn(loads: Mapping[tuple[int, str], _Load], count: int) -> Iterator[_Load]:
    return (loads[count, name] for name in _CONTESTANTS if (count, name) in loads)


if __name__ == "__main__":
    main()
