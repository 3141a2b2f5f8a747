"""What tests on the cluster share: the operator that `make setup` installed, and a namespace that is made anew.

A conftest that imports them has them for the tests of its folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from quickstart import inputs
from quickstart.setup import Ready

from .runs import installed


@pytest.fixture(scope="session")
def ready() -> Ready:
    return installed()


@contextmanager
def fresh_namespace(ready: Ready, name: str) -> Iterator[str]:
    """Give a namespace with the tiny base model and the quickstart's rows; it enforces the standard `restricted`."""
    ready.kubectl.delete("namespace", name)
    inputs.provide(ready, name)
    yield name
    ready.kubectl.delete("namespace", name)
