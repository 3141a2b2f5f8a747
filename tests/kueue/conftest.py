"""Fixtures of the tests with Kueue itself, on the local cluster that `make setup` made.

Kueue comes with the session and goes with it, whatever its end: `tests/kueue/installation.py` says why.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from quickstart import follow, inputs
from quickstart.cluster import LocalCluster, choose
from quickstart.setup import Ready
from quickstart.shell import Kubectl
from tests.e2e.fixtures import ready
from tests.e2e.reporting import pytest_runtest_makereport
from tests.e2e.runs import Job, Runs

from .installation import BINARY, UNMANAGED, eventually, kueue
from .queues import CLUSTER_QUEUE, Competitor, cluster_objects, local_queue, workloads

__all__ = ["pytest_runtest_makereport", "ready"]
NAMESPACE = "qwensft-kueue"


@pytest.fixture(scope="session")
def with_kueue(ready: Ready) -> Iterator[Kubectl]:
    """Kueue, with one queue for all."""
    cluster = choose()
    if not isinstance(cluster, LocalCluster):
        pytest.fail("these tests install Kueue and remove it again: on the local cluster alone", pytrace=False)
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not built: `make test-kueue` builds it", pytrace=False)
    ready.kubectl.delete("namespace", NAMESPACE)
    with kueue(cluster) as kubectl:
        kubectl.apply(*cluster_objects())
        yield kubectl
        kubectl.delete("namespace", NAMESPACE)


@pytest.fixture(scope="session")
def runs(ready: Ready, with_kueue: Kubectl) -> Runs:
    """A namespace with model, rows and a LocalQueue; the quickstart's job is the base of all runs in it."""
    inputs.provide(ready, NAMESPACE)
    with_kueue.apply(local_queue(NAMESPACE))
    return Runs(ready, NAMESPACE, _base())


@pytest.fixture
def unmanaged(ready: Ready, with_kueue: Kubectl) -> Iterator[Runs]:
    """A namespace that Kueue's configuration leaves out, with a LocalQueue default all the same."""
    with_kueue.delete("namespace", UNMANAGED)
    inputs.provide(ready, UNMANAGED)
    with_kueue.apply(local_queue(UNMANAGED, "default"))
    yield Runs(ready, UNMANAGED, _base())
    with_kueue.delete("namespace", UNMANAGED)


def _base() -> Job:
    return dict(yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text()))


@pytest.fixture
def competitor(ready: Ready, runs: Runs) -> Iterator[Competitor]:
    """Somebody else in the queue; whoever is left when a test ends, runs included, goes."""
    yield Competitor(runs.kubectl, NAMESPACE, ready.images.trainer)
    runs.kubectl.delete(follow.RESOURCE, "--all", "-n", NAMESPACE)
    runs.kubectl.delete("jobs", "-l", "kueue.x-k8s.io/queue-name", "-n", NAMESPACE)
    eventually(lambda: not workloads(runs.kubectl, NAMESPACE), f"an empty queue {CLUSTER_QUEUE}")
