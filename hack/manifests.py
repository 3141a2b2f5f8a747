"""Writes deploy/operator.yaml, the chart with its defaults for `kubectl apply -k`.

`python hack/manifests.py [--check]` needs helm in PATH. The CustomResourceDefinition is not among it:
kustomization.yaml takes that of crds/. ADR 0153 says why.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
NAME, NAMESPACE = "qwen-sft-operator", "qwen-sft-system"
NOTICE = "# Written by hack/manifests.py from the Helm chart: `make manifests`. Do not edit.\n"
_OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart")


def manifests() -> list[dict[str, Any]]:
    """Return what the chart renders by default, without Helm's labels, after the namespace that Helm would create."""
    command = ["helm", "template", NAME, str(REPOSITORY / "charts" / NAME), "--namespace", NAMESPACE]
    rendered = subprocess.run(
        [*command, "--set", "crds.enabled=false"], capture_output=True, text=True, check=True
    ).stdout
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    return [namespace, *(_without_helm(document) for document in yaml.safe_load_all(rendered) if document)]


def _without_helm(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_helm(inner) for key, inner in value.items() if key not in _OF_HELM}
    return [_without_helm(inner) for inner in value] if isinstance(value, list) else value


def main() -> int:
    """Write the file, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    check = parser.parse_args().check
    path = REPOSITORY / "deploy" / "operator.yaml"
    text = NOTICE + yaml.safe_dump_all(manifests(), sort_keys=False, width=120, explicit_start=True)
    if check:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write("deploy/operator.yaml is not up to date: run `make manifests`\n")
        return 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
