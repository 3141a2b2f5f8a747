"""The immutable ConfigMap of an attempt: what the trainer reads under /etc/qwensft.

`run.yaml` is the trainer's own configuration, `train.yaml` and `export.yaml` are LLaMA-Factory's, `deepspeed.json` is
DeepSpeed's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from qwensft.api.v1alpha1 import QwenSFTJob, Stage
from qwensft_operator.render.deepspeed import FILE, deepspeed_config
from qwensft_operator.render.llamafactory import export_arguments, train_arguments
from qwensft_operator.render.names import child_name, metadata
from qwensft_operator.render.run import run_document

# libyaml's emitter is ten times as fast; PyYAML is built without it on some platforms.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def config_map(
    job: QwenSFTJob, stage: Stage, attempt: int, *, begun: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the manifest of the ConfigMap that the attempt's pods mount.

    Args:
        job: the custom resource.
        stage: whose ConfigMap.
        attempt: counted from 1.
        begun: the files by which the run has begun, as another version of the operator may have written them. A run
            goes on as it began: training gets these files, the merge their run.yaml with its own section.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, child_name(job, stage, attempt), stage=stage, attempt=attempt),
        "immutable": True,
        "data": _files(job, stage) if begun is None else _continued(job, stage, begun),
    }


def _files(job: QwenSFTJob, stage: Stage) -> dict[str, str]:
    files = {"run.yaml": _yaml(run_document(job, stage))}
    if stage is Stage.MERGE:
        files["export.yaml"] = _yaml(export_arguments(job))
    else:
        files["train.yaml"] = _yaml(train_arguments(job))
        if (configuration := deepspeed_config(job)) is not None:
            files[FILE] = json.dumps(configuration, indent=2) + "\n"
    return files


def _continued(job: QwenSFTJob, stage: Stage, begun: Mapping[str, str]) -> dict[str, str]:
    if stage is not Stage.MERGE:
        return dict(begun)
    run = yaml.safe_load(begun["run.yaml"])
    run.pop("mergePlanned", None)
    run["merge"] = run_document(job, stage)["merge"]
    return _files(job, stage) | {"run.yaml": _yaml(run)}


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
