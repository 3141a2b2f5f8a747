"""Decisions can be found: all begin alike, and each is in the index."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "docs" / "adr"
DECISIONS = {path.name[:4]: path for path in sorted(FOLDER.glob("[0-9]*.md"))}
INDEXED = re.compile(r"^- \[(\d{4})\]\(([\w.-]+)\) (.+)$", re.MULTILINE)


@pytest.mark.parametrize("number", DECISIONS)
def test_a_decision_has_the_common_head(number: str) -> None:
    title, blank, status, *rest = DECISIONS[number].read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"# {number}: \S.*", title)
    assert (blank, rest[0]) == ("", "")
    assert re.match(r"Status: (accepted|replaced by \d{4})", status)
    headings = [line for line in rest if line.startswith("#")]
    assert headings in ([], ["## Context", "## Decision", "## Consequences"])


def test_the_index_names_every_decision_once_by_its_title() -> None:
    indexed = INDEXED.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    titles = {
        number: (path.name, path.read_text(encoding="utf-8").splitlines()[0].partition(": ")[2])
        for number, path in DECISIONS.items()
    }
    assert {number: (name, title) for number, name, title in indexed} == titles
    assert len(indexed) == len(titles)
