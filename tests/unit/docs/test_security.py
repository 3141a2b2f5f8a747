"""What docs/security.md promises is proven by tests that exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_exist() -> None:
    section = PAGE.partition("## Promises")[2].partition("\n## ")[0]
    promises = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(promises) > 15
    for promise in promises:
        tests = re.findall(r"`(tests/[\w/.]+)`", promise.rpartition(" | ")[2])
        assert tests, promise
        assert all((REPOSITORY / test).is_file() for test in tests), promise


def test_the_values_that_the_page_names_are_the_charts() -> None:
    values = (REPOSITORY / "charts" / "qwen-sft-operator" / "values.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(allowed|admissionPolicy|networkPolicies|userRoles)\b", PAGE))
    assert named == {"allowed", "admissionPolicy", "networkPolicies", "userRoles"}
    assert all(re.search(rf"^{name}:", values, re.MULTILINE) for name in named)
