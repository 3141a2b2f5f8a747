"""Fixtures of the end-to-end tests: real pods, through the operator that `make setup` installed from the chart.

The namespace enforces the Pod Security Standard `restricted`, and is made anew for each session.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from quickstart import inputs
from quickstart.setup import Ready

from .fixtures import fresh_namespace, ready
from .reporting import pytest_runtest_makereport
from .runs import Runs

__all__ = ["pytest_runtest_makereport", "ready"]
NAMESPACE = "qwensft-e2e"


@pytest.fixture(scope="session")
def namespace(ready: Ready) -> Iterator[str]:
    with fresh_namespace(ready, NAMESPACE) as name:
        yield name


@pytest.fixture(scope="session")
def runs(ready: Ready, namespace: str) -> Runs:
    """The quickstart's job is the base."""
    return Runs(ready, namespace, yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text()))
