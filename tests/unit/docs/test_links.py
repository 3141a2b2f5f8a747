"""The documents lead somewhere: every relative link names a file, and every anchor a heading of it."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PAGES = sorted(
    path
    for folder in (
        ".",
        "docs",
        "docs/adr",
        "docs/cookbook",
        "docs/how-to",
        "examples",
        "local-cluster",
        "benchmarks/gpu",
        "benchmarks/control_plane",
    )
    for path in (REPOSITORY / folder).glob("*.md")
)
LONGEST_README = 120


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each relative link."""
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in target]
    parts = [target.partition("#") for target in targets]
    return [((page.parent / file if file else page).resolve(), anchor) for file, _, anchor in parts]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"no {file}"
        assert not anchor or anchor in anchors(file), f"{file.name} has no heading #{anchor}"


def test_the_map_leads_to_every_document() -> None:
    mapped = {file for file, _ in links(REPOSITORY / "docs" / "README.md")}
    documents = {path for path in (REPOSITORY / "docs").rglob("*.md") if path.parent.name != "adr"}
    assert documents - {REPOSITORY / "docs" / "README.md"} <= mapped


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README
