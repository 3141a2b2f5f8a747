"""Decisions can be found: each is in the index and cited by what it explains, and every citation has its decision."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "docs" / "adr"
DECISIONS = {path.name[:4]: path for path in sorted(FOLDER.glob("[0-9]*.md"))}
CITED = re.compile(r"\bADR (\d+)\b|\badr/(\d{4})\b")
INDEXED = re.compile(r"^- \[(\d{4})\]\(([\w.-]+)\) (.+)$", re.MULTILINE)


def tracked() -> list[Path]:
    """The files of the repository, those not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [REPOSITORY / name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]


def citations() -> dict[str, set[Path]]:
    """Which files cite a number. The index cites all, and an ADR may cite others: neither counts as explained by it."""
    found: dict[str, set[Path]] = {}
    for path in tracked():
        if path.suffix not in {".py", ".sh", ".md", ".go", ".yaml", ".toml", ""} or path.name == "CHANGELOG.md":
            continue
        for short, long in CITED.findall(path.read_text(encoding="utf-8", errors="ignore")):
            found.setdefault(short or long, set()).add(path)
    return found


CITATIONS = citations()


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


@pytest.mark.parametrize(
    "number", [number for number, path in DECISIONS.items() if "Status: accepted" in path.read_text(encoding="utf-8")]
)
def test_a_decision_is_cited_by_what_it_explains(number: str) -> None:
    assert any(FOLDER not in path.parents for path in CITATIONS.get(number, ()))


def test_every_citation_has_its_decision() -> None:
    unknown = {number: sorted(map(str, paths)) for number, paths in CITATIONS.items() if number not in DECISIONS}
    assert unknown == {}
