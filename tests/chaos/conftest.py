"""Fixtures of the tests that break things, on the local cluster that `make setup` made.

Moments are drawn from a seed, which every failure shows; CHAOS_SEED plays one again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
import yaml
from quickstart import inputs
from quickstart.setup import Ready
from tests.e2e.fixtures import fresh_namespace, ready
from tests.e2e.reporting import pytest_runtest_makereport
from tests.e2e.runs import Runs

from .breaking import operator_ready
from .figures import Figures
from .witness import Witness

__all__ = ["pytest_runtest_makereport", "ready"]
NAMESPACE = "qwensft-chaos"
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10_000))  # noqa: S311 - moments, no secrets


def pytest_report_header() -> str:
    return f"chaos: CHAOS_SEED={SEED}"


@pytest.fixture(scope="session")
def figures() -> Figures:
    return Figures(SEED)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The same moments for a test, whichever others run."""
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows it beside a failure
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311


@pytest.fixture(scope="session")
def runs(ready: Ready) -> Iterator[Runs]:
    """A namespace with model and rows; the quickstart's job is the base of all runs in it."""
    with fresh_namespace(ready, NAMESPACE) as name:
        yield Runs(ready, name, yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text()))


@pytest.fixture
def witness(ready: Ready) -> Iterator[Witness]:
    """Looks at the namespace while the test goes on."""
    with Witness(ready.kubectl, NAMESPACE) as witness:
        yield witness


@pytest.fixture(autouse=True)
def _whole_before(ready: Ready) -> None:
    """What an earlier test broke is whole again."""
    operator_ready(ready.kubectl)
