"""`helm upgrade --reuse-values`: the new templates are rendered by the values of an earlier chart alone.

Helm puts the values that the release has, defaults of its own chart included, in the place of the new chart's
values.yaml: whatever is newer is not there, also not as an empty mapping. ADR 0150.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import CHART, identities, render, values_of


def reused(directory: Path, earlier: Path) -> Path:
    """The chart as Helm sees it when the values of a release from an earlier chart are reused."""
    chart = directory / CHART.name
    shutil.copytree(CHART, chart)
    (chart / "values.yaml").write_text(values_of(earlier))
    return chart


def settings(documents: list[Any]) -> dict[str, str | None]:
    (deployment,) = (d for d in documents if d["kind"] == "Deployment")
    return {v["name"]: v.get("value") for v in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_values_of_an_earlier_chart_are_enough(tmp_path: Path, earlier: Path) -> None:
    chart = reused(tmp_path, earlier)
    before, after = render(chart=earlier), render(chart=chart)
    assert set(identities(before)) <= set(identities(after))
    added = settings(after).keys() - settings(before).keys()
    assert all(settings(after)[name] in ("", "true") for name in added), "what is new limits nothing"
    assert {name: settings(after)[name] for name in settings(before)} == settings(before)


@pytest.mark.parametrize(
    "values",
    [
        ["watchNamespaces={team-a}"],
        ["replicas=2"],
        ["admissionPolicy.enabled=true", "allowed.images={a/*}"],
        ["networkPolicies.operator.enabled=true", "networkPolicies.operator.apiServerPorts={443}"],
        ["networkPolicies.runs.enabled=true"],
        ["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"],
        ["podDisruptionBudget.enabled=true"],
        ["image.digest="],
        ["allowed.claims={a}"],
        ["crds.keep=false"],
    ],
    ids=lambda values: values[0].partition("=")[0],
)
def test_a_value_set_beside_them_is_enough_by_itself(tmp_path: Path, earlier: Path, values: list[str]) -> None:
    options = [option for value in values for option in ("--set", value)]
    assert render(*options, chart=reused(tmp_path, earlier))
