"""What all tests share: hypothesis' settings, and the fixtures of those that talk to a cluster."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Speed is no property of the code under test: a busy machine must not fail one.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the cluster under test: $KUBECONFIG, else the local cluster's. Never skips."""
    if given := os.environ.get("KUBECONFIG"):
        return Path(given)
    asked = subprocess.run(
        [REPOSITORY / "local-cluster" / "cluster", "kubeconfig"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        pytest.fail(f"no cluster to test on: run `make cluster-up`, or set KUBECONFIG\n{asked.stderr}", pytrace=False)
    return Path(asked.stdout.strip())
