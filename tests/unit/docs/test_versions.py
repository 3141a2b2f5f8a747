"""docs/versions.md: the table says of each release what its record says, and of the working tree what is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from tests.upgrades.facts import facts
from tests.upgrades.records import RELEASES

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "versions.md").read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table() -> dict[str, dict[str, str]]:
    """Release -> heading -> cell."""
    lines = PAGE[PAGE.index("| release |") :].split("\n\n")[0].splitlines()
    heading, _, *rows = (cells(line) for line in lines)
    return {row[0]: dict(zip(heading, row, strict=True)) for row in rows}


def test_the_first_row_says_what_is_true_now() -> None:
    assert table().pop("`main`") == facts() | {"release": "`main`"}


def test_every_release_has_a_row_as_it_was_recorded() -> None:
    rows = table()
    del rows["`main`"]
    recorded = [json.loads((r.folder / "versions.json").read_text(encoding="utf-8")) for r in reversed(RELEASES)]
    assert list(rows.values()) == recorded


def test_the_chart_asks_for_the_oldest_kubernetes_of_the_table() -> None:
    oldest = facts()["Kubernetes"].partition("–")[0]
    chart = yaml.safe_load((REPOSITORY / "charts/qwen-sft-operator/Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={oldest}.0-0"
    assert f"Needs Kubernetes {oldest} or newer" in (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")


def test_the_changelog_has_a_section_for_this_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(facts()['release'])}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
