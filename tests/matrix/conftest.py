"""Fixtures of the matrix: its namespace, and the runs of the rows that the session's tests name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from quickstart.cluster import choose
from quickstart.setup import Ready
from tests.e2e.fixtures import ready
from tests.e2e.reporting import pytest_runtest_makereport
from tests.e2e.runs import Runs
from tests.matrix import setting
from tests.matrix.rows import Row
from tests.matrix.runner import Matrix, Result

__all__ = ["pytest_runtest_makereport", "ready"]


@pytest.fixture(scope="session")
def matrix(ready: Ready, request: pytest.FixtureRequest) -> Iterator[Matrix]:
    """Every row that a test of this session names is running or waiting for its turn."""
    named = [item.callspec.params.get("row") for item in request.session.items if isinstance(item, pytest.Function)
             and hasattr(item, "callspec")]  # fmt: skip
    wanted = {row.name: row for row in named if isinstance(row, Row)}
    ready.kubectl.delete("namespace", setting.NAMESPACE)
    provided = setting.provide(ready, choose())
    runs = Runs(ready, setting.NAMESPACE, setting.base())
    matrix = Matrix(ready=ready, setting=provided, runs=runs, rows=tuple(wanted.values()))
    matrix.start()
    yield matrix
    matrix.stop()
    ready.kubectl.delete("namespace", setting.NAMESPACE)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row a test is about; the tests name it by indirect parametrisation."""
    wanted: Row = request.param
    return wanted


@pytest.fixture
def result(row: Row, matrix: Matrix) -> Result:
    """The row's run, which must have succeeded."""
    found = matrix.result(row.name)
    if found.failure:
        pytest.fail(found.failure, pytrace=False)
    return found
