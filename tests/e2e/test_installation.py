"""The chart on a real cluster: what the installed operator may do, and a second release that comes, changes and goes.

What needs no pods (the definition, rights, values of earlier charts) is tested in tests/chart on an API server.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from quickstart.setup import CHART, RELEASE, Ready
from quickstart.shell import REPOSITORY, run

EARLIER = REPOSITORY / "tests" / "chart" / "earlier" / "86ba9c7.tgz"
SECOND, SYSTEM, SERVED = "second", "qwensft-e2e-second", "qwensft-e2e-served"


def test_the_operator_may_do_nothing_by_wildcard_and_reads_no_secrets(ready: Ready) -> None:
    rules = json.loads(ready.kubectl("get", "clusterrole", RELEASE, "-o", "json"))["rules"]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]


class Release:
    """A second release, in namespaces of its own. No run is created there: the installed operator would serve it."""

    def __init__(self, ready: Ready) -> None:
        self._kubectl, self._env = ready.kubectl, ready.kubectl.env
        repository, _, tag = ready.images.operator.rpartition(":")
        image = ("--set", f"image.repository={repository}", "--set", f"image.tag={tag}")
        cluster = ("--set", f"watchNamespaces={{{SERVED}}}", "--set", "crds.enabled=false", "--set", "userRoles=false")
        self.values = (*image, *cluster, "--set", f"trainerImage={ready.images.trainer}")

    def helm(self, command: str, *arguments: str | Path) -> None:
        run(["helm", command, SECOND, *arguments, "--namespace", SYSTEM, "--wait", "--timeout", "5m"], env=self._env)

    @property
    def pods(self) -> list[str]:
        """Names of the pods that are ready, which is more than running (they hear of every kind), and stay."""
        items = self._kubectl.items("pods", "-n", SYSTEM, "-l", f"app.kubernetes.io/instance={SECOND}")
        return [
            pod["metadata"]["name"]
            for pod in items
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]


@pytest.fixture
def release(ready: Ready) -> Iterator[Release]:
    for namespace in (SYSTEM, SERVED):
        ready.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    yield Release(ready)
    ready.kubectl.delete("namespace", SYSTEM, SERVED)


def test_a_namespaced_release_of_an_earlier_chart_is_upgraded_rolled_back_and_uninstalled(
    ready: Ready, release: Release
) -> None:
    release.helm("install", EARLIER, *release.values)
    first = release.pods
    assert len(first) == 1
    changes = ("--set", "workerDefaults.nodeSelector.pool=gpu", "--set", "replicas=2")
    release.helm("upgrade", CHART, "--reuse-values", *changes)
    upgraded = release.pods
    assert len(upgraded) == 2
    assert not set(first) & set(upgraded)
    release.helm("rollback", "1")
    assert len(release.pods) >= 1
    release.helm("uninstall")
    for kind in ("deployments", "services", "serviceaccounts", "roles", "rolebindings"):
        for namespace in (SYSTEM, SERVED):
            assert ready.kubectl.items(kind, "-n", namespace, "-l", f"app.kubernetes.io/instance={SECOND}") == []
    assert ready.kubectl.get("crd", "qwensftjobs.qwensft.io"), "it is the other release's"
