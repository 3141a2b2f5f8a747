"""Statistics, ratios, the goals and the tables. Pure: measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.control_plane import audit
from benchmarks.control_plane.audit import Request

FLOOR_A, FLOOR_B, OURS, TRAINER = "floor A", "floor B", "operator", "trainer"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of all are not above (nearest rank). `values` must not be empty."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def of_load(
    name: str,
    count: int,
    rate: float | None,
    *,
    created: Mapping[str, float],
    told: Mapping[str, float],
    cpu: Mapping[str, float],
    made: Sequence[Request],
) -> dict[str, Any]:
    """What is reported of one contestant under one load.

    Args:
        name: Whose.
        count: Runs that were asked for.
        rate: Runs a second at which they came; None: all at once.
        created: When each run was created, in seconds.
        told: When its Job existed and its status told of it; without the runs that did not get there.
        cpu: CPU seconds by process.
        made: The contestant's requests.
    """
    latencies = [told[run] - created[run] for run in told]
    own = sum(spent for process, spent in cpu.items() if process not in ("apiserver", "etcd"))
    return {
        "name": name,
        "count": count,
        "rate": rate,
        "told": len(latencies),
        "runsPerSecond": len(told) / (max(told.values()) - min(created.values())),
        "p50": percentile(latencies, 0.5),
        "p99": percentile(latencies, 0.99),
        "cpuSeconds": {"own": own, "apiserver": cpu["apiserver"], "etcd": cpu["etcd"]},
        "cpuMsPerRun": sum(cpu.values()) / count * 1000,
        "readsPerRun": audit.count(made, audit.READS) / count,
        "writesPerRun": audit.count(made, audit.WRITES) / count,
        "requests": audit.by_verb(made),
    }


def best_loads(found: Mapping[str, Any], *, rate: float | None) -> dict[tuple[int, str], Mapping[str, Any]]:
    """The best round of each burst, or of each rate: whatever else the machine did can only have slowed it down."""
    best: dict[tuple[int, str], Mapping[str, Any]] = {}
    for load in found.get("loads", ()):
        key = (load["count"], load["name"])
        if load["rate"] == rate and (key not in best or load["runsPerSecond"] > best[key]["runsPerSecond"]):
            best[key] = load
    return best


def hour(
    *, begun: Mapping[str, int], steady: Mapping[str, int], ended: Mapping[str, int], minutes: float
) -> dict[str, int]:
    """Reads and writes of a run with an hour of training, from one of `minutes`: its middle counts for the hour."""
    return {kind: round(begun[kind] + steady[kind] * 60 / minutes + ended[kind]) for kind in ("reads", "writes")}


@dataclass(frozen=True)
class Goal:
    """A bound that a figure has to keep."""

    title: str
    measured: float | None
    bound: float
    at_least: bool = False
    form: str = "{:.1f}"

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None when nothing was measured."""
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def line(self) -> str:
        """One line of the table of goals."""
        sign = "≥" if self.at_least else "≤"
        if self.measured is None:
            return f"| {self.title} | {sign} {self.form.format(self.bound)} | – | not measured |"
        told = "met"
        if not self.met:
            away = self.bound / self.measured if self.at_least else self.measured / self.bound if self.bound else None
            told = "**not met**" + (f", by a factor of {away:.2f}" if away else "")
        return f"| {self.title} | {sign} {self.form.format(self.bound)} | {self.form.format(self.measured)} | {told} |"


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """The goals of the operator's control path. `found`: what __main__ measured; whatever is missing is not judged."""
    bursts = best_loads(found, rate=None)
    largest = max((count for count, _ in bursts), default=0)
    smallest = min((count for count, _ in bursts), default=0)

    def of(count: int, name: str, key: str) -> float | None:
        load = bursts.get((count, name))
        return None if load is None else float(load[key])

    def ratio(one: float | None, other: float | None) -> float | None:
        return None if one is None or not other else one / other

    speeds = [(count, of(count, OURS, "runsPerSecond")) for count in sorted({count for count, _ in bursts})]
    rates = {load["rate"]: load for load in found.get("loads", ()) if load["rate"] and load["name"] == OURS}
    one, long, gang, many = (found.get(key) or {} for key in ("one", "hour", "gang", "finished"))
    listed = []
    for count, speed in speeds:
        listed += [
            Goal(
                f"burst of {count}: runs/s, share of floor B",
                ratio(speed, of(count, FLOOR_B, "runsPerSecond")),
                0.8,
                True,
                "{:.2f}",
            ),
            Goal(
                f"burst of {count}: runs/s, times Trainer's",
                ratio(speed, of(count, TRAINER, "runsPerSecond")),
                1.7,
                True,
                "{:.2f}",
            ),
        ]
    return [
        *listed,
        Goal("30 runs/s: p99 until told, s", rates.get(30.0, {}).get("p99"), 0.5, form="{:.2f}"),
        Goal("until the Job exists and is told: reads", one.get("reads"), 4),
        Goal("until the Job exists and is told: writes", one.get("writes"), 5),
        Goal("hour of 2 pods: reads", long.get("reads"), 150, form="{:.0f}"),
        Goal("hour of 2 pods: writes", long.get("writes"), 130, form="{:.0f}"),
        Goal(f"gang of {gang.get('pods', 256)}: lists of pods", gang.get("podLists"), 5, form="{:.0f}"),
        Goal(f"gang of {gang.get('pods', 256)}: lists of events", gang.get("eventLists"), 5, form="{:.0f}"),
        Goal(f"{many.get('count', 10_000):,} finished runs: MB", many.get("residentMB"), 150, form="{:.0f}"),
        Goal(
            f"{many.get('count', 10_000):,} finished runs: requests in the window",
            many.get("requests"),
            0,
            form="{:.0f}",
        ),
        Goal(
            f"CPU time of a run at {largest:,}, times that at {smallest:,}",
            ratio(of(largest, OURS, "cpuMsPerRun"), of(smallest, OURS, "cpuMsPerRun")) if largest > smallest else None,
            1.1,
            form="{:.2f}",
        ),
    ]


def report(found: Mapping[str, Any]) -> str:
    """All tables, in Markdown."""
    machine = found["machine"]
    blocks = [
        f"commit {machine['commit']}, {machine['cpus']} CPUs ({machine['model']}), "
        f"load average before and after {machine['loadBefore']:.1f} and {machine['loadAfter']:.1f}",
        load_table(found),
    ]
    if found.get("ends"):
        blocks.append(_ends_table(found["ends"]))
    blocks.append(_cost_table(found))
    blocks.append("\n".join(["| goal | bound | measured | |", "|---|---|---|---|", *(g.line() for g in goals(found))]))
    return "\n\n".join(blocks)


def load_table(found: Mapping[str, Any]) -> str:
    """The table of all loads, in Markdown."""
    lines = [
        "| load | | runs/s | of floor B | p50 / p99 until told, s | reads, writes a run | CPU s: own, API server, etcd "
        "| CPU ms a run | MB at rest, peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rate in [None, *sorted({load["rate"] for load in found["loads"] if load["rate"]})]:
        loads = best_loads(found, rate=rate)
        for (count, name), load in sorted(loads.items(), key=lambda item: item[0][0]):
            floor = loads.get((count, FLOOR_B))
            missing = f" ({count - load['told']} never told)" if load["told"] < count else ""
            cells = [
                f"{rate:g}/s, {count:,}" if rate else f"{count:,} at once",
                name + missing,
                f"{load['runsPerSecond']:.1f}",
                f"{load['runsPerSecond'] / floor['runsPerSecond']:.2f}" if floor else "",
                f"{load['p50']:.2f} / {load['p99']:.2f}",
                f"{load['readsPerRun']:.1f}, {load['writesPerRun']:.1f}",
                ", ".join(f"{load['cpuSeconds'][whose]:.1f}" for whose in ("own", "apiserver", "etcd")),
                f"{load['cpuMsPerRun']:.0f}",
                f"{_sum(load['restMB']):.0f}, {_sum(load['peakMB']):.0f}" if "restMB" in load else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends_table(ends: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| from a pod's success to the status | runs | p50, s | p99, s |", "|---|---|---|---|"]
    lines += [f"| {end['name']} | {end['count']} | {end['p50']:.2f} | {end['p99']:.2f} |" for end in ends]
    return "\n".join(lines)


def _cost_table(found: Mapping[str, Any]) -> str:
    """What only the operator was asked for, a line for each."""
    forms = {
        "one": "a run until its Job exists and is told | {reads:.1f} reads, {writes:.1f} writes",
        "hour": "a run of 2 pods and an hour, from {minutes:g} min played | {reads} reads, {writes} writes",
        "gang": "a gang of {pods} pods, from its Job to its end "
        "| {podLists} lists of pods, {eventLists} of events, {writes} writes",
        "live": "{count:,} live runs | {residentMB:.0f} MB, peak {peakMB:.0f} MB",
        "finished": "{count:,} finished runs | {residentMB:.0f} MB, peak {peakMB:.0f} MB; "
        "{requests} requests but watches in {minutes:g} min",
        "restart": "restart with {count:,} live runs | converged after {seconds:.1f} s, {cpuSeconds:.1f} CPU s, "
        "{reads:,} reads, peak {peakMB:.0f} MB",
    }
    lines = [f"| {form.format_map(found[scene])} |" for scene, form in forms.items() if found.get(scene)]
    return "\n".join(["| the operator alone | |", "|---|---|", *lines])


def _sum(by_process: Mapping[str, float]) -> float:
    return sum(by_process.values())
