"""The tasks of examples/cookbook, and their jobs as the local cluster can run them: without GPUs, in a few steps.

A job is otherwise what a reader applies: method, format, template, thinking and loss stay as they are. Runs nothing.
ADR 0188 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.runs import Job, merged_with

from qwensft.api.v1alpha1 import QwenSFTJob, parse_job

REPOSITORY = Path(__file__).parents[2]
COOKBOOK = REPOSITORY / "examples" / "cookbook"
PAGES = REPOSITORY / "docs" / "cookbook"
STEPS = 3
LONGEST_ROW = 1024  # tokens; no row of the cookbook is longer, and packed sequences stay small
MODELS = "base-models"
# The architecture of the tiny model, as trainer-image/tools/make_tiny_model.py calls it, for models of each template.
TINY = {"qwen": "qwen2", "qwen3": "qwen3", "qwen3_nothink": "qwen3", "qwen3_vl_nothink": "qwen3_vl"}

_POD = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}


@dataclass(frozen=True)
class Task:
    """One folder of the cookbook."""

    name: str

    @property
    def folder(self) -> Path:
        """With job.yaml and the rows."""
        return COOKBOOK / self.name

    @property
    def page(self) -> Path:
        """What is told about it."""
        return PAGES / f"{self.name}.md"

    @cached_property
    def document(self) -> Job:
        """The job as it stands in the file."""
        (document,) = yaml.safe_load_all((self.folder / "job.yaml").read_text(encoding="utf-8"))
        return dict(document)

    @cached_property
    def job(self) -> QwenSFTJob:
        """The same, judged by schema and rules."""
        return parse_job(self.document)

    @property
    def begins_with(self) -> Task | None:
        """The task whose adapter it trains on."""
        adapter = self.job.spec.model.adapter
        return None if adapter is None else Task(adapter.run.name)

    @property
    def files(self) -> dict[str, Path]:
        """The files of rows in the folder, by the datasets that read them."""
        return {dataset.name: self.folder / _file_name(dataset.source) for dataset in self.job.spec.all_datasets}

    @property
    def tiny_model(self) -> str:
        """The tiny model that stands for its model."""
        return TINY[str(self.job.spec.model.effective_template)]

    def laboratory_job(self, namespace: str) -> Job:
        """The job with what must differ where there are no GPUs, no hub and little time."""
        training = {
            "epochs": None,
            "maxSteps": STEPS,
            "saveSteps": STEPS,
            "perDeviceTrainBatchSize": 1,
            "gradientAccumulationSteps": 1,
            "cutoffLen": min(self.job.spec.training.cutoff_len, LONGEST_ROW),
            "precision": "fp32",
            "ligerKernel": None,
        }
        spec = {
            "model": {"source": {"volume": {"claimName": MODELS, "path": self.tiny_model}}},
            "training": training,
            "evaluation": {"everySteps": STEPS},
            "prepare": {"resources": _POD},
            "worker": {
                "accelerator": {"count": 0, "memory": None},
                "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
                "resources": _POD,
            },
            "merge": {"resources": _POD},
            "storage": {"volume": {"claimTemplate": {"size": "1Gi"}}},
        }
        return merged_with(self.document, {"metadata": {"namespace": namespace}, "spec": spec})


def _file_name(source: Any) -> str:
    return str(source.config_map.key) if source.config_map else Path(source.volume.path).name


TASKS = tuple(
    sorted(
        (Task(path.parent.name) for path in COOKBOOK.glob("*/job.yaml")),
        key=lambda task: (task.begins_with is not None, task.name),  # then there is what they begin with
    )
)
