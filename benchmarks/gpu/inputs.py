"""What both sides are given beside the model: random text, and the configuration of a QwenSFTJob.

The configuration is what the operator renders for such a job, with the pods' paths moved below one directory: so the
benchmark measures the arguments that users get.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import Stage, parse_job
from qwensft_operator.render import config_map

DATASET = "text"
ROOTS = ("/workspace", "/model", "/datasets")
_WORDS = (
    "the",
    "frame",
    "wheel",
    "chain",
    "needs",
    "oil",
    "and",
    "air",
    "before",
    "every",
    "long",
    "ride",
    "in",
    "rain",
)


def write_rows(path: Path, *, tokens: int, length: int) -> int:
    """Write alpaca rows of a quarter of `length` bytes each, for so many tokens in all; the number of rows."""
    source = random.Random(0)  # noqa: S311
    size = max(16, length // 4)
    count = -(-tokens // size)
    rows = []
    for _ in range(count):
        words = " ".join(source.choices(_WORDS, k=size // 3))
        rows.append({"instruction": words[: size // 4], "input": "", "output": words[size // 4 : size]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return count


def document(options: dict[str, Any]) -> dict[str, Any]:
    """The QwenSFTJob that is measured.

    `options`: method, rank, length, batch, accumulation, steps, packing, gpu, attention, liger.
    """
    lora = {} if options["method"] == "full" else {"lora": {"rank": options["rank"], "targets": ["all"]}}
    return {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": "benchmark", "namespace": "benchmark", "uid": "benchmark", "generation": 1},
        "spec": {
            "model": {
                "name": "Qwen/Qwen3-benchmark",
                "source": {"volume": {"claimName": "model"}},
                "template": "qwen3",
                "attention": options["attention"],
            },
            "datasets": [
                {
                    "name": DATASET,
                    "format": "alpaca",
                    "source": {"volume": {"claimName": "data", "path": "rows.json"}},
                }
            ],
            "tuning": {"method": options["method"], **lora},
            "training": {
                "maxSteps": options["steps"],
                "cutoffLen": options["length"],
                "perDeviceTrainBatchSize": options["batch"],
                "gradientAccumulationSteps": options["accumulation"],
                "packing": options["packing"],
                "ligerKernel": options["liger"],
                "precision": "bf16" if options["gpu"] else "fp32",
                "saveSteps": 1_000_000,
                "plotLoss": False,
            },
            "worker": {"accelerator": {"count": 1 if options["gpu"] else 0}},
            "storage": {"volume": {"claimName": "workspace"}, "path": "run"},
        },
    }


def write_configuration(directory: Path, root: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Write what the operator would mount at /etc/qwensft, for pods whose volumes lie below root; the arguments."""
    files = config_map(parse_job(job), Stage.TRAIN, 1)["data"]
    directory.mkdir(parents=True, exist_ok=True)
    moved = {name: _moved(yaml.safe_load(text), root) for name, text in files.items()}
    for name, content in moved.items():
        (directory / name).write_text(yaml.safe_dump(content, sort_keys=False))
    return dict(moved["train.yaml"])


def _moved(value: Any, root: Path) -> Any:
    """The same document with every path that begins at a pod's mount moved below root."""
    if isinstance(value, dict):
        return {key: _moved(entry, root) for key, entry in value.items()}
    if isinstance(value, list):
        return [_moved(entry, root) for entry in value]
    if isinstance(value, str) and any(value == start or value.startswith(f"{start}/") for start in ROOTS):
        return f"{root}{value}"
    return value
