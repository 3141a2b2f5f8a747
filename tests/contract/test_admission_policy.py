"""The chart's ValidatingAdmissionPolicy on a real API server: it refuses what the operator would not start.

Rendered for one namespace and bound to it alone; every document is tried without being stored, but for those edited.
"""

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwensft_operator import __version__

from .conftest import eventually

CHART = Path(__file__).parents[2] / "charts" / "qwen-sft-operator"
KIND = "qwensftjobs.qwensft.io"
VOLUME = {"claimName": "others", "path": "x"}
ROWS = {"name": "rows", "format": "alpaca"}
ALLOWED = {
    "images": ["registry.example/ml/*", "other/trainer@sha256:abc"],
    "claims": ["team-*", "shared"],
    "serviceAccounts": ["trainer"],
    "hostNetwork": False,
}


class Namespace:
    """A namespace for which the policy is in force."""

    def __init__(self, kubeconfig: Path, name: str) -> None:
        self.name = name
        self._kubectl = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", name]

    def create(self, *options: str, **spec: Any) -> str | None:
        """Create a job, or see with --dry-run=server whether it could be; return the refusal."""
        document = {
            "apiVersion": "qwensft.io/v1alpha1",
            "kind": "QwenSFTJob",
            "metadata": {"name": "demo" if not options else "tried"},
            "spec": {
                "model": {"name": "Qwen/Qwen3-8B"},
                "datasets": [ROWS | {"source": {"configMap": {"name": "rows", "key": "rows.json"}}}],
                "storage": {"volume": {"claimTemplate": {"size": "1Gi"}}},
                "runPolicy": {"suspend": True},
                **spec,
            },
        }
        return self._refusal("create", "-f", "-", *options, document=document)

    def tried(self, **spec: Any) -> str | None:
        return self.create("--dry-run=server", **spec)

    def edited(self, **spec: Any) -> str | None:
        return self._refusal(
            "patch", KIND, "demo", "--type=merge", "--dry-run=server", "-p", json.dumps({"spec": spec})
        )

    def _refusal(self, *arguments: str, document: Any = None) -> str | None:
        done = subprocess.run(
            [*self._kubectl, *arguments], input=json.dumps(document), capture_output=True, text=True, check=False
        )
        return None if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def namespace(
    kubeconfig: Path, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Namespace]:
    # An installed one is left alone: Helm refuses to upgrade what somebody else has written since.
    if not kubectl("get", "crd", KIND, "--ignore-not-found"):
        kubectl("create", "-f", str(CHART.parents[1] / "crds"))
    kubectl("wait", "--for=condition=Established", f"crd/{KIND}")
    name = f"policy-{uuid.uuid4().hex[:8]}"
    values = {
        "admissionPolicy": {"enabled": True},
        "allowed": ALLOWED,
        "watchNamespaces": [name],
        "fullnameOverride": name,
    }
    path = tmp_path_factory.mktemp("policy") / "values.json"
    path.write_text(json.dumps(values))
    rendered = subprocess.run(
        ["helm", "template", name, str(CHART), "--values", str(path), "--show-only", "templates/admission-policy.yaml"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (path.parent / "policy.yaml").write_text(rendered)
    kubectl("create", "namespace", name)
    there = Namespace(kubeconfig, name)
    assert there.create(worker={"image": "before:1", "serviceAccountName": "before", "hostNetwork": True}) is None
    try:
        kubectl("create", "-f", str(path.parent / "policy.yaml"))

        def is_in_force() -> None:
            assert there.tried(worker={"image": "evil:1"}) is not None

        eventually(is_in_force, "the policy to be in force")
        yield there
    finally:
        kubectl("delete", "-f", str(path.parent / "policy.yaml"), "--ignore-not-found")
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"worker": {"image": "evil:1"}}, "allowed images (spec.worker.image, spec.model.source.image) are registry"),
        ({"worker": {"image": "registry.example/mlops/x"}}, "allowed images"),
        ({"model": {"name": "a/b", "source": {"image": {"reference": "evil:1"}}}}, "allowed images"),
        ({"model": {"name": "a/b", "source": {"volume": VOLUME}}}, "allowed claims are team-*, shared"),
        ({"model": {"name": "a/b", "cache": VOLUME}}, "allowed claims"),
        ({"storage": {"volume": {"claimName": "others"}}}, "allowed claims"),
        ({"datasets": [ROWS | {"source": {"volume": VOLUME}}]}, "allowed claims"),
        ({"evaluation": {"datasets": [ROWS | {"name": "e", "source": {"volume": VOLUME}}]}}, "allowed claims"),
        ({"worker": {"serviceAccountName": "admin"}}, "allowed service accounts (spec.worker.serviceAccountName) are"),
        ({"worker": {"hostNetwork": True}}, "spec.worker.hostNetwork is not allowed"),
    ],
    ids=range(10),
)
def test_what_is_not_allowed_is_refused(namespace: Namespace, spec: dict[str, Any], expected: str) -> None:
    assert expected in (namespace.tried(**spec) or "")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"worker": {"image": "registry.example/ml/trainer:2", "serviceAccountName": "trainer"}},
        {"worker": {"image": f"qwensft/trainer:{__version__}", "hostNetwork": False}},
        {
            "storage": {"volume": {"claimName": "shared"}},
            "model": {"name": "a/b", "cache": VOLUME | {"claimName": "team-1"}},
        },
        {"datasets": [ROWS | {"source": {"volume": {"claimName": "team-2", "path": "x"}}}]},
    ],
    ids=range(5),
)
def test_what_is_allowed_is_stored(namespace: Namespace, spec: dict[str, Any]) -> None:
    assert namespace.tried(**spec) is None


def test_a_job_from_before_is_edited_freely_but_for_more_of_what_is_not_allowed(namespace: Namespace) -> None:
    assert namespace.edited(runPolicy={"suspend": False}) is None
    assert "allowed service accounts" in (namespace.edited(worker={"serviceAccountName": "admin"}) or "")
    assert namespace.edited(worker={"serviceAccountName": "trainer"}) is None
