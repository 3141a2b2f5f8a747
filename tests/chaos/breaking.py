"""How things are broken: processes of the local cluster, containers, training workers and pod sandboxes are killed.

What is killed here ends by SIGKILL, without a chance to say goodbye, as in a machine that runs out of memory.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from quickstart.cluster import LOCAL
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE
from quickstart.shell import Kubectl, run

from qwensft_operator.runtime.kube import Manifest

COMPONENTS = ("kubelet", "containerd", "kube-apiserver", "etcd")
_WORKER = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    words = (folder / "cmdline").read_bytes().split(b"\\0")
    if b"qwensft_trainer.training.worker" in words and not any(b"torchrun" in word for word in words):
        os.kill(int(folder.name), signal.SIGKILL)
        print("killed", folder.name)
"""


@contextmanager
def component_killed(name: str) -> Iterator[None]:
    """Kill a component of the local cluster, and have it started again, as a supervisor would, while the caller looks.

    Leaves when the cluster is whole again.
    """
    run([LOCAL, "kill", name])
    with subprocess.Popen([LOCAL, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as mending:
        try:
            yield
        finally:
            said, _ = mending.communicate(timeout=300)
    assert mending.returncode == 0, said


def kill_container(kubectl: Kubectl, pod: Manifest, *, signal: str = "SIGKILL") -> None:
    """Send a signal to the first process of a pod's container."""
    (status,) = pod["status"]["containerStatuses"]
    _ctr(kubectl, "tasks", "kill", "--signal", signal, status["containerID"].removeprefix("containerd://"))


def kill_worker(kubectl: Kubectl, pod: Manifest) -> None:
    """Kill the process that trains; the one that watches over it lives on."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    said = kubectl("exec", "-i", name, "-n", namespace, "-c", "trainer", "--", "python3", "-", stdin=_WORKER)
    assert "killed" in said, "no worker was there to be killed"


def kill_sandbox(kubectl: Kubectl, pod: Manifest) -> None:
    """Kill the pause process that holds a pod's network, and with it what its address stands for."""
    uid = pod["metadata"]["uid"]
    selector = f'labels."io.cri-containerd.kind"==sandbox,labels."io.kubernetes.pod.uid"=={uid}'
    (sandbox,) = _ctr(kubectl, "containers", "ls", "-q", selector).split()
    _ctr(kubectl, "tasks", "kill", "--signal", "SIGKILL", sandbox)


def operators(kubectl: Kubectl) -> list[Manifest]:
    """Pods of the installed operator that run."""
    pods = kubectl.items("pods", "-n", SYSTEM_NAMESPACE, "-l", f"app.kubernetes.io/name={RELEASE}")
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and all("running" in status["state"] for status in pod["status"].get("containerStatuses", [{"state": {}}]))
    ]


def operator_ready(kubectl: Kubectl) -> None:
    """Wait until the operator's Deployment is as it should be."""
    kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, "--timeout=400s", timeout=420)
    deadline = time.monotonic() + 330  # a container that was killed often is made to wait for up to five minutes
    while not operators(kubectl):
        assert time.monotonic() < deadline, "the operator does not come back"
        time.sleep(0.5)


def _ctr(kubectl: Kubectl, *arguments: str) -> str:
    return run(["ctr", *arguments], env=kubectl.env)
