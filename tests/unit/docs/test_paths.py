"""The documents and docstrings name what is there: every path in code type, every module of our own."""

import re
from pathlib import Path

import pytest
from tests.unit.docs.test_decisions import tracked

REPOSITORY = Path(__file__).parents[3]
PAGES = [
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs/how-to").glob("*.md")),
    *sorted((REPOSITORY / "docs/cookbook").glob("*.md")),
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "README.md",
]
TRACKED = [path.relative_to(REPOSITORY) for path in tracked()]
ROOTS = {path.parts[0] for path in TRACKED if len(path.parts) > 1}
DISTRIBUTIONS = {"client", "operator", "trainer-image"}
SOURCES = [path for path in TRACKED if path.suffix == ".py" and path.parts[0] in DISTRIBUTIONS]
DECISIONS = [path for path in TRACKED if path.parent == Path("docs/adr")]
# What our texts name of LLaMA-Factory and DeepSpeed.
LIBRARIES = {"llamafactory/data/template.py", "llamafactory/model/adapter.py", "src/train.py", "zero_to_fp32.py"}
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"(?<![\w./<>-])([\w.-]+(?:/[\w.-]+)+/?)(?![\w*<{])")
MODULE = re.compile(r"(?<![\w.*])((?:[\w-]+/)*[a-z]\w*\.py)\b")


def paths(text: str) -> set[str]:
    """The paths in code type that begin with a folder of the repository."""
    named = {path for code in CODE.findall(text) for path in PATH.findall(code)}
    return {path for path in named if path.split("/")[0] in ROOTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_exists(page: Path) -> None:
    missing = {path for path in paths(page.read_text(encoding="utf-8")) if not (REPOSITORY / path).exists()}
    assert missing == set()


def test_a_path_is_found_wherever_it_is_in_code_type() -> None:
    text = "`docs/a.md`, `.venv/bin/pytest docs/b`\n\n    cat docs/c/\n\n```\nls docs/d\n```\nprose docs/e, `build/f`\n"
    assert paths(text) == {"docs/a.md", "docs/b", "docs/c/", "docs/d"}


@pytest.mark.parametrize("source", [*SOURCES, *DECISIONS], ids=str)
def test_every_module_that_a_source_or_a_decision_names_exists(source: Path) -> None:
    siblings = {f"/{path}" for path in TRACKED if source in DECISIONS or path.parts[0] == source.parts[0]}
    named = set(MODULE.findall((REPOSITORY / source).read_text(encoding="utf-8"))) - LIBRARIES
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in siblings)} == set()
