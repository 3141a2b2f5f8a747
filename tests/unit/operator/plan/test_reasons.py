"""Every reason that a user may meet stands in docs/troubleshooting.md: what it means, what to look at, the way out."""

import re
from pathlib import Path

import pytest

from qwensft.api.v1alpha1 import Reason

PAGE = (Path(__file__).parents[4] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TROUBLES, NO_TROUBLES = PAGE.split("\n## No trouble\n")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TROUBLES, re.MULTILINE | re.DOTALL))
ROWS = [line.split("|")[1:-1] for line in NO_TROUBLES.splitlines() if line.startswith("| `")]


def test_each_reason_is_explained_once() -> None:
    listed = [reason for row in ROWS for reason in re.findall(r"`(\w+)`", row[0])]
    headings = re.findall(r"^### (.+)$", TROUBLES, re.MULTILINE)
    expected = set(Reason) - {Reason.PEER_LOST}
    assert sorted([*headings, *listed]) == sorted(expected), "PeerLost is never a condition's reason"


@pytest.mark.parametrize("reason", SECTIONS)
def test_a_trouble_has_its_meaning_what_to_look_at_and_a_way_out(reason: str) -> None:
    parts = re.findall(r"^\* \*\*([\w ]+)\*\*: (\S.+)$", SECTIONS[reason], re.MULTILINE)
    assert [name for name, _ in parts] == ["Means", "Look at", "Way out"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip(" `"))
def test_what_is_no_trouble_has_its_meaning(row: list[str]) -> None:
    assert len(row) == 4
    assert row[1].strip()
