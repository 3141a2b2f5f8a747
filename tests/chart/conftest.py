"""The chart as Helm renders it, and charts of earlier releases. Needs helm and kubectl in PATH: `make test-chart`."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "qwen-sft-operator"
EARLIER = [
    *sorted((Path(__file__).parent / "earlier").glob("*.tgz")),
    *sorted((Path(__file__).parents[1] / "upgrades").glob("v*.*.*/chart.tgz")),
]
# libyaml's reads the definition ten times as fast; PyYAML is built without it on some platforms.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def render(*options: str | Path, chart: Path = CHART, release: str = "one", namespace: str = "system") -> list[Any]:
    """Return the manifests that Helm makes of a chart."""
    command: Sequence[str | Path] = ["helm", "template", release, chart, "--namespace", namespace, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, Loader=_LOADER) if document]


def identities(documents: list[Any]) -> list[tuple[str, str | None, str]]:
    """Kind, namespace and name of each manifest."""
    return [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]


def values_of(archive: Path) -> str:
    """Return the values.yaml of a packaged chart."""
    with tarfile.open(archive) as packed:
        found = packed.extractfile("qwen-sft-operator/values.yaml")
        assert found is not None
        return found.read().decode()


@pytest.fixture(params=EARLIER, ids=lambda path: path.parent.name if path.stem == "chart" else path.stem)
def earlier(request: pytest.FixtureRequest) -> Path:
    """A packaged chart of an earlier release."""
    path: Path = request.param
    return path
