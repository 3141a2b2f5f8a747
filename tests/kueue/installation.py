"""Kueue on the local cluster: its manager as an image, its own chart, and no trace of either afterwards.

While it is installed, Jobs of the whole cluster pass its webhooks, which refuse them when nobody answers: so whatever
happens, it is taken away. Run as a program, this only takes it away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from quickstart.cluster import LocalCluster
from quickstart.shell import REPOSITORY, Kubectl, run
from quickstart.steps import QuickstartError

MODULE = Path(__file__).parent / "manager"
BINARY = REPOSITORY / "build" / "kueue" / "kueue"
NAMESPACE = "kueue-system"
MANAGER = "deployment/kueue-controller-manager"
_GROUP, _VISIBILITY = "kueue.x-k8s.io", "visibility.kueue.x-k8s.io"
_NAME = "localhost/qwensft/kueue:dev"
_TIMEOUT = 300.0  # seconds
UNMANAGED = "qwensft-kueue-unmanaged"
_OTHERS = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", NAMESPACE, UNMANAGED]}
# As Kueue's own default, with the one integration that there is here, one replica that need not be elected, and a
# namespace that it is to leave alone.
_CONFIGURATION = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "internalCertManagement": {"enable": True},
    "manageJobsWithoutQueueName": False,
    "managedJobsNamespaceSelector": {"matchExpressions": [_OTHERS]},
    "integrations": {"frameworks": ["batch/job"]},
}


@contextmanager
def kueue(cluster: LocalCluster) -> Iterator[Kubectl]:
    """Install Kueue, and take it away again with all that it has defined."""
    kubectl = cluster.kubectl()
    remove(cluster)
    try:
        _install(cluster)
        _answers(kubectl)
        yield kubectl
    finally:
        remove(cluster)


def _install(cluster: LocalCluster) -> None:
    arguments = ["--file", str(MODULE / "Dockerfile")]
    cluster.build_image(_NAME, BINARY.parent, arguments, lambda _: None)
    image = cluster.publish(_NAME, "kueue", cluster.image_id(_NAME)[:12])
    repository, _, tag = image.rpartition(":")
    manager = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    }
    values = {
        "controllerManager": {"manager": manager},
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump(_CONFIGURATION)},
    }
    run(
        ["helm", "upgrade", "--install", "kueue", _chart(), "--namespace", NAMESPACE, "--create-namespace",
         "--wait", "--timeout", f"{_TIMEOUT:.0f}s", "--values", "-"],
        env=cluster.environment(),
        stdin=json.dumps(values),
    )  # fmt: skip


def _chart() -> Path:
    found = run(["go", "-C", MODULE, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kueue"])
    return Path(found.strip()) / "charts" / "kueue"


def _answers(kubectl: Kubectl) -> None:
    """Wait until the webhooks and the visibility API answer, which a ready Deployment does not promise."""
    flavor = json.dumps({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "try"}})
    path = f"/apis/{_VISIBILITY}/v1beta2"
    eventually(lambda: bool(kubectl("apply", "--dry-run=server", "-f", "-", stdin=flavor)), "its webhooks")
    eventually(lambda: bool(kubectl("get", "--raw", path)), "its visibility API")


def remove(cluster: LocalCluster) -> None:
    """Take away what Kueue has brought, and first of all what would refuse Jobs once nobody answers."""
    kubectl, environment = cluster.kubectl(), cluster.environment()
    for kind in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        _delete(kubectl, kind, [one for one in _names(kubectl, kind) if one.startswith("kueue-")])
    _delete(kubectl, "apiservices", [one for one in _names(kubectl, "apiservices") if one.endswith(f".{_VISIBILITY}")])
    for release in run(["helm", "list", "--namespace", NAMESPACE, "--short"], env=environment).split():
        run(["helm", "uninstall", release, "--namespace", NAMESPACE], env=environment)
    eventually(lambda: _defines_nothing(kubectl), "the end of Kueue's definitions")
    kubectl.delete("namespace", NAMESPACE)


def _defines_nothing(kubectl: Kubectl) -> bool:
    """Whether Kueue's kinds are gone. What waits for a manager that has left is let go."""
    definitions = [one for one in _names(kubectl, "crds") if one.endswith(f".{_GROUP}")]
    for definition in definitions:
        kubectl("delete", "crd", definition, "--ignore-not-found", "--wait=false")
        for one in kubectl.items(definition, "--all-namespaces"):
            meta = one["metadata"]
            scope = ("-n", meta["namespace"]) if "namespace" in meta else ()
            kubectl(
                "patch", definition, meta["name"], *scope, "--type=merge", '--patch={"metadata":{"finalizers":null}}'
            )
    return not definitions


def _names(kubectl: Kubectl, kind: str) -> list[str]:
    return [one["metadata"]["name"] for one in kubectl.items(kind)]


def _delete(kubectl: Kubectl, kind: str, names: list[str]) -> None:
    if names:
        kubectl.delete(kind, *names)


def eventually(look: Callable[[], bool], what: str, timeout: float = _TIMEOUT) -> None:
    """Look until there is what is looked for; an answer that fails is none. Fails with the last failure."""
    end = time.monotonic() + timeout
    said = ""
    while time.monotonic() < end:
        try:
            if look():
                return
        except QuickstartError as failure:
            said = f": {failure}"
        time.sleep(1)
    raise AssertionError(f"no sign of {what} in {timeout:.0f} s{said}")


if __name__ == "__main__":
    remove(LocalCluster())
