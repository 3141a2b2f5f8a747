"""The operator as a process against a real control plane, and hands that play the kubelet.

Pods are never scheduled (their node selector matches no node): the tests write what a kubelet would report, and the
real Job controller draws its conclusions. An operator that is installed in the cluster is kept out of office meanwhile.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from qwensft_operator.runtime.kube import LEASES, Kube, Resource
from qwensft_operator.runtime.leader import Leader

from .cluster import Cluster, Operator

REPOSITORY = Path(__file__).parents[2]
DEPLOYMENTS = Resource("apps", "v1", "deployments")
NAMESPACES = 28  # one for every test that shares the operator


@pytest.fixture(scope="package", autouse=True)
def _environment(kubeconfig: Path) -> Iterator[None]:
    """Have this process and the operators use the cluster under test."""
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    # The chart's CRD is left alone: Helm refuses to upgrade what somebody else has written since.
    present = subprocess.run(["kubectl", "get", "crd", "qwensftjobs.qwensft.io"], check=False, capture_output=True)
    if present.returncode != 0:
        subprocess.run(["kubectl", "create", "-f", str(REPOSITORY / "crds")], check=True, capture_output=True)
    subprocess.run(["kubectl", "wait", "--for=condition=Established", "crd/qwensftjobs.qwensft.io"], check=True)
    yield
    if before is None:
        del os.environ["KUBECONFIG"]
    else:
        os.environ["KUBECONFIG"] = before


@pytest.fixture(scope="package", autouse=True)
def _installed_operator_on_leave(_environment: None) -> Iterator[None]:
    """Hold the Lease of an installed operator: it becomes a stand-by, and is back at once when the tests end or die."""
    stop = threading.Event()
    held = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_hold_leases(held, stop)), daemon=True)
    thread.start()
    assert held.wait(180), "the Lease of the installed operator could not be taken"
    yield
    stop.set()
    thread.join(90)


async def _hold_leases(held: threading.Event, stop: threading.Event) -> None:
    kube = await Kube.connect(10)
    leaders, leases = [], []
    for deployment in await kube.list(DEPLOYMENTS, "", label_selector="app.kubernetes.io/name=qwen-sft-operator"):
        if deployment["spec"]["replicas"] == 0:
            continue
        namespace = deployment["metadata"]["namespace"]
        environment = {
            variable["name"]: variable.get("value")
            for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        name = environment["QWENSFT_LEASE_NAME"] or ""
        taken = {"spec": {"holderIdentity": "integration-tests", "leaseDurationSeconds": 15}}
        await kube.merge(LEASES, namespace, name, taken)
        leader = Leader(kube, namespace=namespace, name=name, identity="integration-tests", duration=15)
        await leader.acquire()
        leases.append((namespace, name))
        leaders.append((leader, asyncio.create_task(leader.hold())))
    await asyncio.sleep(11 if leases else 0)  # by then whoever held them has noticed, or given up
    held.set()
    await asyncio.to_thread(stop.wait)
    for leader, holding in leaders:
        holding.cancel()
        await leader.release()
    for namespace, name in leases:
        # The tests that follow may need it.
        async with asyncio.timeout(60):
            while not (await kube.get(LEASES, namespace, name))["spec"]["holderIdentity"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    await kube.close()


@pytest.fixture(scope="package")
def namespaces(_environment: None) -> Iterator[list[str]]:
    """Fresh namespaces, watched by the shared operator."""
    prefix = f"integration-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{number}" for number in range(NAMESPACES)]
    _create_namespaces(*names)
    yield list(names)
    subprocess.run(["kubectl", "delete", "namespace", "--wait=false", *names], check=True, capture_output=True)


def _create_namespaces(*names: str) -> None:
    """Create namespaces that are as strict as it gets, each with the claim and the rows that `apply` names."""
    manifest = "\n---\n".join(
        f"""{{apiVersion: v1, kind: Namespace,
            metadata: {{name: {name}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}
---
{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{namespace: {name}, name: models}},
 spec: {{accessModes: [ReadWriteMany], resources: {{requests: {{storage: 1Mi}}}}}}}}
---
{{apiVersion: v1, kind: ConfigMap, metadata: {{namespace: {name}, name: facts}}, data: {{f.json: "[]"}}}}"""
        for name in names
    )
    subprocess.run(["kubectl", "create", "-f", "-"], input=manifest, text=True, check=True, capture_output=True)


@pytest.fixture(scope="package")
def _shared_operator(namespaces: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = start_operator(
        tmp_path_factory.mktemp("operator") / "log",
        QWENSFT_NAMESPACES=",".join(namespaces),
        QWENSFT_LEADER_ELECTION="false",
    )
    with operator:
        operator.wait_until_ready()
        yield operator


@pytest.fixture
async def cluster(namespaces: list[str], _shared_operator: Operator) -> AsyncIterator[Cluster]:
    """A namespace of its own for the test, served by the operator that the tests share."""
    kube = await Kube.connect(10)
    yield Cluster(kube, namespaces.pop(), _shared_operator)
    await kube.close()


@pytest.fixture
def unserved_namespace() -> Iterator[str]:
    """A fresh namespace that no operator watches."""
    name = f"integration-{uuid.uuid4().hex[:8]}"
    _create_namespaces(name)
    yield name
    subprocess.run(["kubectl", "delete", "namespace", "--wait=false", name], check=True, capture_output=True)


@pytest.fixture
async def lone_cluster(unserved_namespace: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A namespace without an operator: the test starts, kills and restarts its own."""
    name = unserved_namespace
    kube = await Kube.connect(10)
    with contextlib.ExitStack() as running:

        def start(**settings: str) -> Operator:
            log = tmp_path / f"operator-{uuid.uuid4().hex[:4]}.log"
            return running.enter_context(start_operator(log, **{"QWENSFT_NAMESPACES": name, **settings}))

        yield Cluster(kube, name, start_operator=start)
    await kube.close()


def start_operator(log: Path, *program: str, **settings: str) -> Operator:
    """Start `python -m qwensft_operator`, or another program around it, with its log in a file."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("client", "operator")),
        # Compiling kopf and the Kubernetes client takes longer than all the rest of a start.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(REPOSITORY / "build" / "pycache"),
        "QWENSFT_TRAINER_IMAGE": "qwensft/trainer:integration",
        "QWENSFT_HEALTH_PORT": "0",
        "QWENSFT_SCRAPE_INTERVAL_SECONDS": "1",
        "QWENSFT_PROGRESS_INTERVAL_SECONDS": "1",
        **settings,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(program or ("-m", "qwensft_operator"))], env=environment, stderr=output
        )
    return Operator(process, log)


def pytest_sessionfinish() -> None:
    """Leave no operator behind, whatever happened."""
    for process in Operator.all:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
