"""What a failed test shows of the job that it is about, beside its assertion: the run's own words are often the cause.

A conftest that imports `pytest_runtest_makereport` has it for the tests of its folder.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest
from quickstart import follow
from quickstart.steps import QuickstartError


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the job's account to the report of a failed test."""
    report = yield
    if report.failed and (account := account_of(getattr(item, "funcargs", {}))):
        report.sections.append(("the job, as it is now", account))
    return report


def account_of(fixtures: Mapping[str, Any]) -> str:
    """Return how the job of a test's fixtures went: the one of its row, else the one that it looked at last."""
    runs = fixtures["matrix"].runs if "matrix" in fixtures else fixtures.get("runs")
    name = fixtures["row"].name if "row" in fixtures else getattr(runs, "latest", "")
    if runs is None or not name:
        return ""
    try:
        job = runs.get(name)
        return f"{runs.namespace}/{name}\n{follow.account(runs.kubectl, job)}" if job else f"{name} does not exist"
    except QuickstartError as error:  # the test's own failure must be seen whatever has become of the cluster
        return f"{name} cannot be read: {error}"
