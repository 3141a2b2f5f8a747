"""The immutable ConfigMap of an attempt: what the trainer reads under /etc/qwensft.

`run.yaml` is the trainer's own configuration, `train.yaml` and `export.yaml` are LLaMA-Factory's.
"""

from __future__ import annotations

from typing import Any

import yaml

from qwensft.api.v1alpha1 import Dataset, QwenSFTJob
from qwensft.render.llamafactory import export_arguments, train_arguments
from qwensft.render.names import DATASETS, child_name, metadata, model_path, run_directory

# Every column and tag is written out: LLaMA-Factory drops rows silently where one is missing.
COLUMNS = {
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    },
    "sharegpt": {"messages": "conversations", "system": "system", "tools": "tools"},
}
TAGS = {
    "role": "from",
    "content": "value",
    "user": "human",
    "assistant": "gpt",
    "observation": "observation",
    "function": "function_call",
    "system": "system",
}


def config_map(job: QwenSFTJob, stage: str, attempt: int) -> dict[str, Any]:
    """Return the manifest of the ConfigMap that the attempt's pods mount."""
    files = {"run.yaml": _run(job, stage)}
    if stage == "merge":
        files["export.yaml"] = export_arguments(job)
    else:
        files["train.yaml"] = train_arguments(job)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, child_name(job, stage, attempt), stage=stage, attempt=attempt),
        "immutable": True,
        "data": {name: yaml.safe_dump(content, sort_keys=False, allow_unicode=True) for name, content in files.items()},
    }


def _run(job: QwenSFTJob, stage: str) -> dict[str, Any]:
    spec, meta = job.spec, job.metadata
    run: dict[str, Any] = {
        "owner": {"uid": meta.uid, "namespace": meta.namespace, "name": meta.name},
        "runDirectory": run_directory(job),
        "onExisting": spec.storage.on_existing,
        "model": {"name": spec.model.name, "path": model_path(job), "download": _download(job)},
        "datasets": [_dataset(dataset) for dataset in spec.datasets],
        "tuning": {"method": spec.tuning.method},
        "accelerator": {"count": spec.worker.accelerator.count},
    }
    if stage == "merge":
        directory = f"{run_directory(job)}/{spec.merge.effective_path}"
        run["merge"] = {"directory": directory, "verify": spec.merge.verify, "dtype": spec.merge.dtype}
    return run


def _download(job: QwenSFTJob) -> dict[str, Any] | None:
    source = job.spec.model.effective_source
    for hub, origin in (("huggingFace", source.hugging_face), ("modelScope", source.model_scope)):
        if origin is not None:
            return {"hub": hub, "repo": origin.repo or job.spec.model.name, "revision": origin.revision}
    return None


def _dataset(dataset: Dataset) -> dict[str, Any]:
    source = dataset.source
    file = source.volume.path if source.volume else source.config_map.key if source.config_map else ""
    columns = COLUMNS[dataset.format] | (dataset.columns.document() if dataset.columns else {})
    entry: dict[str, Any] = {
        "name": dataset.name,
        "format": dataset.format,
        "path": f"{DATASETS}/{dataset.name}/{file}",
        "columns": columns,
    }
    if dataset.format == "sharegpt":
        tags = TAGS | (dataset.tags.document() if dataset.tags else {})
        entry["tags"] = {f"{name}_tag": value for name, value in tags.items()}
    if dataset.sample_count is not None:
        entry["sampleCount"] = dataset.sample_count
    return entry
