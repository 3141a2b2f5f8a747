"""Fixtures of the client's tests: the operator that `make setup` installed, and a namespace of their own.

It enforces the Pod Security Standard `restricted`, and is made anew for each session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import inputs
from quickstart.setup import Ready
from tests.e2e.fixtures import fresh_namespace, ready

from qwensft import Client

__all__ = ["ready"]
NAMESPACE = "qwensft-client"


@pytest.fixture(scope="session")
def namespace(ready: Ready) -> Iterator[str]:
    with fresh_namespace(ready, NAMESPACE) as name:
        yield name


@pytest.fixture(scope="session")
def client(namespace: str, kubeconfig: Path) -> Client:
    return Client(namespace=namespace, kubeconfig=kubeconfig)


@pytest.fixture
def spec() -> dict[str, Any]:
    """The blocks of a short run on one CPU, without rows: the quickstart's, with the tiny model."""
    blocks: dict[str, Any] = yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text())["spec"]
    del blocks["datasets"]
    blocks["distribution"] = {"nodes": 1}
    blocks["training"] |= {"maxSteps": 6, "loggingSteps": 2}
    blocks["storage"] = {"volume": {"claimTemplate": {"size": "1Gi"}}}
    return blocks
