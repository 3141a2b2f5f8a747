"""Pure arithmetic of the benchmark: of every pair that was measured in turns the ratio, and the least of all rounds.

Other work on the machine can only add to a figure, so the least counts; ratios are taken round by round, as neighbours
have the same company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Found = dict[str, Any]
_PARTS = ("checks", "gang", "imports", "rendezvous", "data", "model", "setup")


def table(rounds: Sequence[Found]) -> str:
    """All parts that were measured, as Markdown. `rounds`: what the measuring script has printed, line by line."""
    found: dict[str, list[Found]] = {}
    for line in rounds:
        found.setdefault(line["part"], []).append(line["found"])
    return "\n\n".join(_TABLES[part](measured) for part, measured in found.items())


def _imports(rounds: Sequence[Found]) -> str:
    lines = ["| imports | s | CPU s | peak MiB | modules |", "|---|---|---|---|---|"]
    for name, first in rounds[0].items():
        seconds, cpu, memory = (min(one[name][key] for one in rounds) for key in ("seconds", "cpu", "memory"))
        lines.append(f"| {name} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} | {first['modules']} |")
    return "\n".join(lines)


def _pairs(title: str, theirs: str, ours: str, digits: int = 2) -> Callable[[Sequence[Found]], str]:
    def written(rounds: Sequence[Found]) -> str:
        lines = [f"| {title} | s | CPU s |", "|---|---|---|"]
        for name in (theirs, ours):
            values = [f"{min(one[name][key] for one in rounds):.{digits}f}" for key in ("seconds", "cpu")]
            lines.append(f"| {name} | {' | '.join(values)} |")
        ratios = [median(one[ours][key] / one[theirs][key] for one in rounds) for key in ("seconds", "cpu")]
        lines.append(f"| ratio, median of {len(rounds)} | {ratios[0]:.3f} | {ratios[1]:.3f} |")
        return "\n".join(lines)

    return written


def _start(title: str) -> Callable[[Sequence[Found]], str]:
    def written(rounds: Sequence[Found]) -> str:
        best = min((one["ours"] for one in rounds), key=lambda ours: float(ours["seconds"]))
        return f"{_pairs(title, 'bare', 'ours')(rounds)}\n\n{_parts(best['parts'])}"

    return written


def _parts(parts: Found) -> str:
    told = {name: parts[f"{name}_seconds"] for name in _PARTS}
    whole = parts["training_timestamp_seconds"] - parts["started_timestamp_seconds"]
    words = ", ".join(f"{name} {seconds:.2f}" for name, seconds in told.items())
    return (
        f"Of the faster start, in seconds: {words}; {sum(told.values()):.2f} of {whole:.2f} until the first step began."
    )


def _attempts(rounds: Sequence[Found]) -> str:
    compiled = {name: max(len(one[name]["compiled"]) for one in rounds) for name in ("first", "second")}
    files = f"Files that compilers left: {compiled['first']} by the first, {compiled['second']} by the second."
    return f"{_pairs('attempt, to its first step', 'first', 'second')(rounds)}\n\n{files}"


_TABLES: dict[str, Callable[[Sequence[Found]], str]] = {
    "imports": _imports,
    "prepare": _pairs("prepare, 64 rows", "before", "present"),
    "start": _start("one node, to the first step"),
    "gang": _start("two nodes, to the first step"),
    "attempts": _attempts,
    "steps": _pairs("a step", "bare", "ours", digits=4),
}
PARTS = tuple(_TABLES)
