"""What the measuring script is given: configurations as this version and the one before render them, rows, old code.

The configuration is what the operator renders for a small job, with the pods' paths moved below one directory.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml
from benchmarks.gpu.inputs import write_configuration

ROOT = Path(__file__).parents[2]
BEFORE = "6323452"  # the commit that starts were first looked at
ROWS = 64
_RENDER = "import json, sys; from pathlib import Path; from benchmarks.gpu.inputs import write_configuration as w; \
w(Path(sys.argv[1]), Path(sys.argv[2]), json.load(sys.stdin))"


def job() -> dict[str, Any]:
    """A LoRA on few short rows: what it takes before and beside the training is what is measured."""
    return {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": "startup", "namespace": "benchmark", "uid": "benchmark", "generation": 1},
        "spec": {
            "model": {
                "name": "Qwen/Qwen3-benchmark",
                "source": {"volume": {"claimName": "model"}},
                "template": "qwen3",
            },
            "datasets": [
                {"name": "rows", "format": "alpaca", "source": {"volume": {"claimName": "data", "path": "rows.json"}}}
            ],
            "tuning": {"lora": {"rank": 8, "targets": ["all"]}},
            "training": {
                "maxSteps": 1000,
                "cutoffLen": 256,
                "perDeviceTrainBatchSize": 2,
                "gradientAccumulationSteps": 1,
                "precision": "fp32",
                "plotLoss": False,
            },
            "worker": {"accelerator": {"count": 0}},
            "storage": {"volume": {"claimName": "workspace"}, "path": "run"},
        },
    }


def written(path: Path, root: Path, make_model: str) -> None:
    """Write everything to one file, for a measurement in `root` with the program `make_model` at that path there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_configuration(folder / "present", root, job())
        _render_before(folder, root)
        archive = folder / "code.tar"
        with tarfile.open(archive, "w:xz") as code:
            code.add(folder / "checkout" / "trainer-image" / "qwensft_trainer", "qwensft_trainer")
        document = {
            "configurations": {name: _documents(folder / name) for name in ("present", "before")},
            "rows": {"path": "datasets/rows/rows.json", "rows": _rows()},
            "before": base64.b64encode(archive.read_bytes()).decode(),
            "makeModel": make_model,
        }
    path.write_text(json.dumps(document))


def _render_before(folder: Path, root: Path) -> None:
    checkout = folder / "checkout"
    checkout.mkdir()
    parts = ["operator", "benchmarks/gpu", "trainer-image/qwensft_trainer"]
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE, *parts], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(checkout)], input=packed.stdout, check=True)
    subprocess.run(
        [sys.executable, "-c", _RENDER, str(folder / "before"), str(root)],
        input=json.dumps(job()).encode(),
        env=os.environ | {"PYTHONPATH": f"{checkout}:{checkout / 'operator'}"},
        cwd=checkout,
        check=True,
    )


def _documents(folder: Path) -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text()) for path in folder.iterdir()}


def _rows() -> list[dict[str, str]]:
    return [
        {"instruction": f"What is the number {number}?", "input": "", "output": f"It is the number {number}. " * 8}
        for number in range(ROWS)
    ]
