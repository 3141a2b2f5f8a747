"""What docs/monitoring.md, dashboards, alerts and recordings say of metrics is what the code serves."""

import json
import re
from pathlib import Path

import pytest
import yaml
from monitoring.metrics import of_the_operator, of_the_pods

REPOSITORY = Path(__file__).parents[3]
FILES = REPOSITORY / "charts" / "qwen-sft-operator" / "files"
PAGE = (REPOSITORY / "docs" / "monitoring.md").read_text(encoding="utf-8")
RECORDED = REPOSITORY / "tests" / "monitoring" / "recorded"
SERVED = {metric.name for metric in (*of_the_operator(), *of_the_pods())}
NAME = re.compile(r"\bqwensft_\w+")
# Those of merges are recorded nowhere, and those of accelerators and trackers not where there are none.
UNRECORDED = {"qwensft_merge_info", "qwensft_merge_bytes_done", "qwensft_merge_bytes_total"}
UNRECORDED |= {"qwensft_train_attempt_model_flops_utilization", "qwensft_train_tracker_undelivered_lines"}
ALERTS = [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def queried(expression: str) -> set[str]:
    """The metrics that an expression names; a histogram by its own name."""
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAME.findall(expression)}
    return {name for name in names if not name.startswith("qwensft_train_attempt_") or name in SERVED}


def test_the_recordings_are_of_the_metrics_that_the_code_has() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in RECORDED.rglob("*.txt"))
    types = dict(re.findall(r"^# TYPE (qwensft_\w+) (\w+)$", texts, re.MULTILINE))
    recorded = {name for name, type_ in types.items() if not name.endswith("_created")}
    assert recorded == SERVED - UNRECORDED, "record anew: docs/development.md, Dashboards and alerts"


@pytest.mark.parametrize("path", sorted((FILES / "dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_name_metrics_that_there_are(path: Path) -> None:
    expressions = re.findall(r'"expr": "((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))
    assert expressions
    assert {name for expression in expressions for name in queried(json.loads(f'"{expression}"'))} <= SERVED


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_that_there_are_and_a_heading_that_says_what_to_do(rule: dict[str, str]) -> None:
    assert queried(rule["expr"]) <= SERVED
    assert f"\n### {rule['alert']}\n" in PAGE
    assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"  # type: ignore[index]


def test_every_metric_has_a_prefix_that_says_what_it_is_about_and_a_help() -> None:
    for metric in (*of_the_operator(), *of_the_pods()):
        assert re.match(r"qwensft_(operator|runs?|restarts|stage|accelerators?|train|merge)_", f"{metric.name}_")
        assert re.fullmatch(r"[A-Z0-9].*\.", metric.help), metric
        assert not {"namespace", "job", "pod", "instance"} & set(metric.labels), "scrapes give those"
