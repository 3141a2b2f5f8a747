"""What the example needs in its namespace before it is applied: the base model on a volume, the rows in ConfigMaps.

The namespace and the names are those of examples/quickstart.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from quickstart.pods import job_manifest, run_job
from quickstart.setup import Ready
from quickstart.shell import REPOSITORY, Kubectl

EXAMPLES = REPOSITORY / "examples"
MODEL_CLAIM = "base-models"
MODEL_PATH = "qwen3-tiny"
DATASETS = ("handbook", "support-desk")


def documents(path: Path, namespace: str) -> list[dict[str, Any]]:
    """Read the manifests of a file, moved to a namespace (a Namespace object gets its name)."""
    found = [dict(document) for document in yaml.safe_load_all(path.read_text())]
    for document in found:
        if document["kind"] == "Namespace":
            document["metadata"]["name"] = namespace
        else:
            document["metadata"]["namespace"] = namespace
    return found


def rows(name: str, namespace: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return a ConfigMap with data files."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(files)}


def make_namespace(kubectl: Kubectl, namespace: str) -> None:
    """Make a namespace like the quickstart's, with an empty volume for models."""
    kubectl.apply(*documents(EXAMPLES / "data" / "namespace.yaml", namespace))


def provide(ready: Ready, namespace: str) -> None:
    """Make the namespace, the volume with the tiny base model, and one ConfigMap for each dataset."""
    kubectl = ready.kubectl
    make_namespace(kubectl, namespace)
    for name in DATASETS:
        file = EXAMPLES / "data" / f"{name}.json"
        kubectl.apply(rows(name, namespace, {file.name: file.read_text()}))
    make_model(kubectl, namespace, ready.images.tiny_model)


def make_model(
    kubectl: Kubectl, namespace: str, image: str, *, path: str = MODEL_PATH, options: Sequence[str] = ()
) -> None:
    """Let a tiny model be written to the volume; nothing to do when this image has done so already.

    `options` are those of trainer-image/tools/make_tiny_model.py.
    """
    name = f"make-model-{path.replace('_', '-')}"
    existing = kubectl.get("job", name, "-n", namespace)
    if existing.get("status", {}).get("succeeded"):
        container = existing["spec"]["template"]["spec"]["containers"][0]
        if container["image"] == image:
            return
    container = {"image": image, "args": [f"/volume/{path}", *options]}
    run_job(kubectl, job_manifest(name, namespace, container, {"/volume": MODEL_CLAIM}, writable=True))
