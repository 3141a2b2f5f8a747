"""The control plane benchmark's pictures: what is drawn, and that page, file and pictures have the same figures."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from benchmarks.control_plane import figures, plots
from benchmarks.control_plane.drawing import Chart, Column, Part

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "performance.md").read_text()
FOUND: dict[str, Any] = json.loads((DOCS / "figures" / "control-plane.json").read_text())
RENEW = "benchmarks/control_plane/README.md says how figures and pictures are renewed"
SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {"commit": "0123456", "cpus": 2, "model": "a CPU", "loadBefore": 0.1, "loadAfter": 2.0}


def rows(head: str) -> Iterator[list[str]]:
    """The cells of a table of the page, by the line that it begins with."""
    _, _, table = PAGE.partition(f"{head}\n")
    assert table, f"no table {head}"
    for line in table.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line[1:-1].split("|")]


def test_the_pictures_are_drawn_from_the_figures() -> None:
    committed = {path.name: path.read_text() for path in (DOCS / "figures").glob("control-plane-*.svg")}
    assert committed == {name: chart.svg() for name, chart in plots.charts(FOUND).items()}, RENEW


def test_the_page_shows_every_picture_and_says_what_is_on_it() -> None:
    for name, chart in plots.charts(FOUND).items():
        assert f"![{chart.description()}](figures/{name})" in PAGE, RENEW


def test_the_page_has_the_figures_of_every_load() -> None:
    head, _, *lines = figures.load_table(FOUND).splitlines()
    shown = list(rows(head))
    assert len(shown) == len(lines)
    for row, line in zip(shown, lines, strict=True):
        made = [cell.strip() for cell in line[1:-1].split("|")]
        # The page may have this ratio from speeds that were not rounded.
        assert float(row.pop(3)) == pytest.approx(float(made.pop(3)), abs=0.011), line
        assert row == made, RENEW


def test_the_page_has_what_was_measured_of_every_goal() -> None:
    measured = {number for row in rows("| goal | bound | measured | |") for number in re.findall(r"[\d.]+", row[2])}
    for goal in figures.goals(FOUND):
        assert goal.measured is not None
        assert goal.form.format(goal.measured) in measured, goal.title


def test_the_page_has_what_was_measured_of_the_operator_alone() -> None:
    alone = "\n".join(" | ".join(row) for row in rows("| the operator alone | |"))
    ours, trainer = FOUND["ends"]
    for told in (
        f"p50 {ours['p50']:.2f} s, p99 {ours['p99']:.2f} s (Trainer {trainer['p50']:.2f}, {trainer['p99']:.2f} s)",
        "{count:,} live runs | {residentMB:.0f} MB".format_map(FOUND["live"]),
        "{count:,} finished runs | {residentMB:.0f} MB; in {minutes:g} minutes".format_map(FOUND["finished"]),
        "restart with {count:,} live runs | converged after {seconds:.1f} s".format_map(FOUND["restart"]),
        "peak {peakMB:.0f} MB".format_map(FOUND["restart"]),
    ):
        assert told in alone, RENEW


def load(name: str, count: int, speed: float, rate: float | None = None) -> dict[str, Any]:
    """What the benchmark reports of runs that are told one after the other."""
    created = {str(number): 0.0 for number in range(count)}
    told = {str(number): (number + 1) / speed for number in range(count)}
    cpu = {name: count * 0.01, "apiserver": count * 0.02, "etcd": count * 0.005}
    return figures.of_load(name, count, rate, created=created, told=told, cpu=cpu, made=[])


def drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg())  # noqa: S314 - made here


def texts(chart: Chart) -> list[str]:
    return [text.text or "" for text in drawn(chart).iter(f"{SVG}text")]


def test_what_the_benchmark_reports_can_be_drawn() -> None:
    memory = {"restMB": {"trainer": 40.0, "jobset": 20.0}, "peakMB": {"trainer": 60.0, "jobset": 30.0}}
    loads = [load("operator", 100, 20.0), load("trainer", 100, 25.0) | memory, load("operator", 200, 11.0, rate=10.0)]
    charts = plots.charts({"machine": MACHINE, "loads": loads, "ends": []})
    assert {name: chart.description().partition(". ")[2] for name, chart in charts.items()} == {
        "control-plane-throughput.svg": "100: operator 20.0, trainer 25.0.",
        "control-plane-latency.svg": "10 runs/s: operator 9.09 to 18.00.",
        "control-plane-cpu.svg": "100: operator 35 (10 + 20 + 5), trainer 35 (10 + 20 + 5).",
        "control-plane-memory.svg": "at rest: trainer 60; 100 at once: trainer 90.",
    }
    assert "commit 0123456, 2 CPUs (a CPU)" in texts(charts["control-plane-cpu.svg"])


def test_what_was_not_measured_is_not_drawn() -> None:
    assert plots.charts({"machine": MACHINE, "loads": []}) == {}
    live = plots.charts({"machine": MACHINE, "loads": [], "live": {"count": 9, "residentMB": 70.0, "peakMB": 80.0}})
    assert [chart.description() for chart in live.values()] == ["Resident memory, in MB. 9 live: operator 70."]


def chart(*columns: Column) -> Chart:
    return Chart("Title", "things", "kinds", "{:.2f}", {"group": columns}, "somewhere")


def test_columns_are_as_high_as_their_values() -> None:
    (_, low, high) = drawn(chart(Column("a", (Part(0, 2, "blue"),)), Column("b", (Part(0, 4, "blue"),)))).iter(
        f"{SVG}rect"
    )
    assert float(high.attrib["height"]) == pytest.approx(2 * float(low.attrib["height"]))


def test_a_range_has_both_its_values_and_a_logarithmic_axis_where_ranges_are_far_apart() -> None:
    near = chart(Column("a", (Part(1.0, 2.0, "blue"),)))
    far = chart(Column("a", (Part(0.01, 0.02, "blue"),)), Column("b", (Part(5.0, 9.0, "blue"),)))
    assert {"1.00", "2.00", "things"} <= set(texts(near))
    assert {"0.01", "9.00", "things, logarithmic"} <= set(texts(far))


def test_a_picture_names_itself_and_loads_nothing() -> None:
    svg = chart(Column("a & b", (Part(0, 1, "blue"),))).svg()
    root = ET.fromstring(svg)  # noqa: S314 - made here
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == (
        "Title",
        "Title, in things. group: a & b 1.00.",
    )
    assert svg.count("://") == 1, "its namespace"
    assert "prefers-color-scheme: dark" in svg
