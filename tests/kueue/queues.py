"""A queue that one gang fills, and what competes for it."""

from __future__ import annotations

from typing import Any

from quickstart.shell import Kubectl
from tests.e2e.runs import Job

API = "kueue.x-k8s.io/v1beta2"
FLAVOR, CLUSTER_QUEUE, QUEUE = "qwensft-any", "qwensft-gpus", "team"
LOW, HIGH = "qwensft-low", "qwensft-high"
PRIORITY = "kueue.x-k8s.io/priority-class"
GANG_CPU = "500m"
"""What the two pods of the quickstart's training ask for together, and the whole quota."""

Manifest = dict[str, Any]


def cluster_objects() -> list[Manifest]:
    """One quota that lets the higher priority go first, and two priorities."""
    quota = [{"name": "cpu", "nominalQuota": GANG_CPU}, {"name": "memory", "nominalQuota": "100Gi"}]
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [
            {"coveredResources": ["cpu", "memory"], "flavors": [{"name": FLAVOR, "resources": quota}]},
        ],
    }
    return [
        {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": FLAVOR}},
        {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": CLUSTER_QUEUE}, "spec": spec},
        *({"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
          for name, value in ((LOW, 10), (HIGH, 1000))),
    ]  # fmt: skip


def local_queue(namespace: str, name: str = QUEUE) -> Manifest:
    """What a run names to wait for that quota."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": "LocalQueue", "metadata": metadata, "spec": {"clusterQueue": CLUSTER_QUEUE}}


def multikueue(namespace: str, name: str) -> list[Manifest]:
    """A queue that would send Jobs to another cluster, if there were one."""
    quota = [{"name": resource, "nominalQuota": "100Gi"} for resource in ("cpu", "memory")]
    check = f"{CLUSTER_QUEUE}-{name}"
    spec = {
        "namespaceSelector": {},
        "admissionChecksStrategy": {"admissionChecks": [{"name": check}]},
        "resourceGroups": [
            {"coveredResources": ["cpu", "memory"], "flavors": [{"name": FLAVOR, "resources": quota}]},
        ],
    }
    parameters = {"apiGroup": API.partition("/")[0], "kind": "MultiKueueConfig", "name": check}
    return [
        {"apiVersion": API, "kind": "AdmissionCheck", "metadata": {"name": check},
         "spec": {"controllerName": "kueue.x-k8s.io/multikueue", "parameters": parameters}},
        {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": check}, "spec": spec},
        local_queue(namespace, name) | {"spec": {"clusterQueue": check}},
    ]  # fmt: skip


class Competitor:
    """A Job of somebody else in the same queue, which sleeps until it is told to go."""

    def __init__(self, kubectl: Kubectl, namespace: str, image: str) -> None:
        self._kubectl, self._namespace, self._image = kubectl, namespace, image

    def come(self, name: str) -> None:
        """Ask for the whole quota, before all that has a lower priority."""
        labels = {"kueue.x-k8s.io/queue-name": QUEUE, PRIORITY: HIGH}
        container = {
            "name": "sleep",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", "import time; time.sleep(3600)"],
            "resources": {"requests": {"cpu": GANG_CPU, "memory": "64Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        metadata = {"name": name, "namespace": self._namespace, "labels": labels}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": pod}}}
        self._kubectl.apply(job)

    def is_in(self, name: str) -> bool:
        """Whether its pod runs."""
        return bool(self._kubectl.get("job", name, "-n", self._namespace).get("status", {}).get("ready"))

    def go(self, name: str) -> None:
        """Give the quota back."""
        self._kubectl.delete("job", name, "-n", self._namespace)


def workloads(kubectl: Kubectl, namespace: str, owner: str = "") -> list[Job]:
    """Kueue's Workloads: all of a namespace, or those of one Job."""
    found = kubectl.items(f"workloads.{API.partition('/')[0]}", "-n", namespace)
    return [one for one in found if not owner or one["metadata"]["ownerReferences"][0]["name"] == owner]
