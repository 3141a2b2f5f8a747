"""Every query that is shipped answers, on what was really told."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.monitoring.conftest import ALERTS, RELABELLED, Prometheus, tool
from tests.monitoring.recordings import TARGETS, read

HERE = Path(__file__).parent
BOARDS = sorted((ALERTS.parent / "dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "20s", "$__range": "1m", "$namespace": "team", "$run": "run"}
# Known where the kind of the accelerator is: not on the CPUs that trained here.
WITHOUT_DATA = {"qwensft_train_attempt_model_flops_utilization"}


class Panel(NamedTuple):
    board: str
    title: str
    expression: str
    legend: str


def panels() -> Iterator[Panel]:
    for path in BOARDS:
        for panel in _panels(json.loads(path.read_text(encoding="utf-8"))["panels"]):
            for target in panel.get("targets", ()):
                yield Panel(path.stem, panel["title"], target["expr"], target.get("legendFormat", ""))


def _panels(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in found:
        yield panel
        yield from _panels(panel.get("panels") or [])


def filled(expression: str) -> str:
    """The query as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def test_there_are_three_dashboards_with_many_panels() -> None:
    assert [path.stem for path in BOARDS] == ["operator", "runs", "training"]
    assert len(list(panels())) > 40


@pytest.mark.parametrize("panel", list(panels()), ids=lambda panel: f"{panel.board}: {panel.title}: {panel.legend}")
def test_the_query_of_a_panel_answers(prometheus: Prometheus, panel: Panel) -> None:
    found = prometheus.ask("query", query=filled(panel.expression))["result"]
    if any(name in panel.expression for name in WITHOUT_DATA):
        assert found == []
        return
    assert found, panel.expression
    if panel.board == "training":
        assert {series["metric"]["instance"] for series in found} == {"training:1", RELABELLED["instance"]}
    named = set(re.findall(r"\{\{(\w+)\}\}", panel.legend))
    if panel.board == "operator":
        named.discard("run_namespace")  # a watch of all namespaces has none
    assert all(named <= series["metric"].keys() for series in found), found
    assert any(series["value"][1] not in ("NaN", "+Inf", "-Inf") for series in found), found


def test_the_choices_of_a_dashboard_have_values(prometheus: Prometheus) -> None:
    asked = []
    for path in BOARDS:
        for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
                values = prometheus.ask(f"label/{label}/values", **{"match[]": filled(series)})
                assert values == [VARIABLES[f"${variable['name']}"]], variable["query"]
                asked.append(label)
    assert asked == ["run_namespace", "run_namespace", "run"]


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert len(rules) == 13


def test_the_rules_are_as_promtool_wants_them_and_each_fires_when_it_should() -> None:
    subprocess.run([tool("promtool"), "check", "rules", "--lint-fatal", str(ALERTS)], check=True)
    subprocess.run([tool("promtool"), "test", "rules", str(HERE / "alerts.yaml")], check=True)
    names = set(re.findall(r"^  - alert: (\w+)", ALERTS.read_text(), re.MULTILINE))
    tests = (HERE / "alerts.yaml").read_text()
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", tests))
    assert fires == names
    # That one has two namespaces beside the one for which it fires.
    assert silent == names - {"QwenSFTAcceleratorTimeWasted"}


@pytest.mark.parametrize("target", TARGETS)
def test_names_and_units_are_as_promtool_wants_them(target: str) -> None:
    *_, last = read(target)
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=last, text=True, capture_output=True, check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("qwensft_")]
    assert ours == []
