"""From measured runs to tables: the fastest of each, its ratios to the bare export, and what 72 B would take."""

from __future__ import annotations

from typing import Any

Run = dict[str, Any]
Size = dict[str, Any]

TITLES = {
    "export": "`llamafactory-cli export`",
    "streaming": "engine streaming, verification none",
    "tensors": "verification tensors, alone",
    "full": "verification full, alone",
    "llamafactory": "engine llamafactory, verification none",
    "copied": "streaming's writing, all tensors copied",
    "touched": "streaming's writing, touched tensors alone",
}
_MB = 10**6


def best_of(size: Size) -> dict[str, Run]:
    """The fastest run of each contestant, with the highest of its peaks."""
    found: dict[str, Run] = {}
    for name in dict.fromkeys(run["name"] for run in size["runs"]):
        runs = [run for run in size["runs"] if run["name"] == name]
        peaks = {key: max(run[key] for run in runs) for key in ("peakMiB", "anonymousMiB")}
        found[name] = min(runs, key=lambda run: float(run["seconds"])) | peaks
    if {"streaming", "tensors", "full"} <= found.keys():
        for level in ("tensors", "full"):
            found[f"streaming+{level}"] = _both(found["streaming"], found[level])
    return found


def _both(one: Run, other: Run) -> Run:
    sums = ("seconds", "cpuSeconds", "askedRead", "askedWritten", "diskRead", "diskWritten")
    peaks = {key: max(one[key], other[key]) for key in ("peakMiB", "anonymousMiB")}
    return peaks | {key: one[key] + other[key] for key in sums} | {"steps": one["steps"] | other["steps"]}


def report(found: dict[str, Any]) -> str:
    """All of it as Markdown."""
    lines = [
        "| B | | s | CPU s | peak MiB | of it anonymous | MB read | MB written | s / export | peak / export |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in found["sizes"]:
        best = best_of(size)
        lines += [_row(size["size"], name, run, best["export"]) for name, run in best.items()]
    caches = sorted({run["cache"] for size in found["sizes"] for run in size["runs"]})
    lines += ["", f"Page cache before each run: {', '.join(caches)}.", ""]
    return "\n".join([*lines, *_extrapolated(found["sizes"], found["largest"])])


def _row(size: str, name: str, run: Run, export: Run) -> str:
    levels = name.removeprefix("streaming+")
    title = TITLES.get(name, f"engine streaming, verification {levels}")
    figures = f"{run['seconds']:.1f} | {run['cpuSeconds']:.1f} | {run['peakMiB']} | {run['anonymousMiB']}"
    moved = f"{run['diskRead'] / _MB:.0f} | {run['diskWritten'] / _MB:.0f}"
    if name in ("copied", "touched"):
        return f"| {size} | {title} | {figures} | {moved} | | |"
    ratios = f"{run['seconds'] / export['seconds']:.2f} | {run['peakMiB'] / export['peakMiB']:.2f}"
    return f"| {size} | {title} | {figures} | {moved} | {ratios} |"


def _extrapolated(sizes: list[Size], largest: Size) -> list[str]:
    """What the largest model would take by the rates of the largest that was measured. Nothing of it is measured."""
    measured = max(sizes, key=lambda size: int(size["bytes"]))
    best = best_of(measured)
    rates = {
        "copied": measured["bytes"] / best["copied"]["seconds"],
        "touched": measured["touchedBytes"] / best["touched"]["seconds"],
    }
    copied = largest["bytes"] - largest["touchedBytes"]
    fixed = best["streaming"]["seconds"] - sum(
        count / rates[kind]
        for kind, count in (
            ("copied", measured["bytes"] - measured["touchedBytes"]),
            ("touched", measured["touchedBytes"]),
        )
    )
    seconds = max(0.0, fixed) + copied / rates["copied"] + largest["touchedBytes"] / rates["touched"]
    times = {"engine streaming": seconds}
    smallest = min(sizes, key=lambda size: int(size["bytes"]))
    if smallest is not measured:
        before = best_of(smallest)
        for level in ("tensors", "full"):
            seconds_per_byte = (best[level]["seconds"] - before[level]["seconds"]) / (
                measured["bytes"] - smallest["bytes"]
            )
            more = seconds_per_byte * (largest["bytes"] - measured["bytes"])
            times[f"verification {level}"] = best[level]["seconds"] + more
    of = f"EXTRAPOLATED to {largest['size']} B ({largest['bytes'] / 1e9:.0f} GB), not measured"
    told = "; ".join(f"{title} {seconds / 60:.0f} min" for title, seconds in times.items())
    speeds = ", ".join(f"{kind} tensors {rate / _MB:.0f} MB/s" for kind, rate in rates.items())
    return [f"{of}: {told}. Rates at {measured['size']} B: {speeds}."]
