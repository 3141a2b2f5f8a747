"""What a release works with: the row of this version in the table of docs/versions.md, from where each fact stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from qwensft_operator import __version__
from qwensft_trainer.contract.config import RUN_VERSION

REPOSITORY = Path(__file__).parents[2]


def facts() -> dict[str, str]:
    """The row of this version: heading -> cell."""
    definition = yaml.safe_load((REPOSITORY / "crds" / "qwensft.io_qwensftjobs.yaml").read_text(encoding="utf-8"))
    pins = _found("trainer-image/requirements.txt", r"^([\w-]+)==(\S+)")
    oldest, newest = (
        _found(f"{folder}/go.mod", r"^\s*(k8s\.io/kubernetes) v(\d+\.\d+)")["k8s.io/kubernetes"]
        for folder in ("tests/oldest", "local-cluster")
    )
    return {
        "release": __version__,
        "API": ", ".join(version["name"] for version in definition["spec"]["versions"] if version["served"]),
        "run.yaml": f"1–{RUN_VERSION}",
        "Kubernetes": f"{oldest}–{newest}",
        "LLaMA-Factory": pins["llamafactory"],
        **{package: pins[package] for package in ("transformers", "peft", "torch")},
    }


def _found(file: str, pattern: str) -> dict[str, str]:
    return dict(re.findall(pattern, (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE))
