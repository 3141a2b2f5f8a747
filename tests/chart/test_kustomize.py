"""`kubectl apply -k` installs what the chart installs by default: no more, no less, and under the same names."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import yaml

from .conftest import identities, render

REPOSITORY = Path(__file__).parents[2]
NAME, NAMESPACE = "qwen-sft-operator", "qwen-sft-system"


def test_the_manifests_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "hack" / "manifests.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def built(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout


def test_kustomize_builds_what_the_chart_renders_and_its_namespace() -> None:
    text = built(REPOSITORY)
    expected = {*identities(render(release=NAME, namespace=NAMESPACE)), ("Namespace", None, NAMESPACE)}
    documents = list(yaml.safe_load_all(text))
    assert set(identities(documents)) == expected
    assert len(documents) == len(expected)
    assert "Helm" not in text


def test_the_overlay_of_the_documentation_sets_both_images(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    example = page[page.index("    resources: [../qwen-sft-operator]") :].partition("\n\n")[0]
    overlay = textwrap.dedent(example).replace("../qwen-sft-operator", os.path.relpath(REPOSITORY, tmp_path))
    (tmp_path / "kustomization.yaml").write_text(overlay)
    (deployment,) = (d for d in yaml.safe_load_all(built(tmp_path)) if d["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/operator:TAG"
    assert {"name": "QWENSFT_TRAINER_IMAGE", "value": "registry.example/trainer:TAG"} in container["env"]
