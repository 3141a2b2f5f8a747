"""The fenced blocks of shell in the documents, each with the word in the comment above it on how it is tested."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from tests.unit.docs.test_decisions import tracked

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "adr")]
_BLOCK = re.compile(
    r"(?:^(?P<indent> *)<!-- (?P<mark>[^\n]*?) -->\n)?^ *```(?:sh|shell|bash|console)\b.*?\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block: `mark` is `run: files`, `run: cluster`, `not run: why`, or empty where nothing is said."""

    page: Path
    line: int
    mark: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in its order."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(page, source.count("\n", 0, match.start()) + 1, match["mark"] or "", textwrap.dedent(match["text"]))
        for match in _BLOCK.finditer(source)
    ]


def script(page: Path, mark: str) -> str:
    """All blocks of a page with this mark as one script, which stops at the first failure and names its line."""
    parts = [
        f"trap 'echo \"failed: the block at {page.name}:{block.line}\" >&2' ERR\n{block.text}"
        for block in blocks(page)
        if block.mark == mark
    ]
    return "set -euo pipefail\n" + "".join(parts) if parts else ""


def copy_of_repository(target: Path, folders: Set[str]) -> Path:
    """Copy the tracked files of some folders, for commands that leave files beside them; returns the target."""
    for path in tracked():
        relative = path.relative_to(REPOSITORY)
        if relative.parts[0] in folders:
            copy = target / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return target
