"""What docs/reliability.md promises is proven by tests that exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_promise_names_its_tests() -> None:
    section = PAGE.partition("## Promises")[2].partition("##")[0]
    promises = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert promises
    unproven = [line for line in promises if not re.search(r"`tests/[\w/.]+`", line)]
    assert unproven == []


def test_every_chaos_test_proves_a_promise() -> None:
    tests = {path.name for path in (REPOSITORY / "tests" / "chaos").glob("test_*.py")}
    unnamed = {name for name in tests if f"tests/chaos/{name}" not in PAGE}
    assert unnamed == set()
