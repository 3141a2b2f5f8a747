"""run.yaml: the trainer's own configuration. Whose run it is, where its files lie, and what prepare fetches and checks.

LLaMA-Factory's arguments stand in `llamafactory`. Optional keys are left out where nothing is said. Images of other
versions read this file, too: docs/adr/0074 says what may change, and when RUN_VERSION rises.
"""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import Dataset, Evaluation, QwenSFTJob, ReportTo, SourceRun, Stage
from qwensft_operator import __version__
from qwensft_operator.render.deepspeed import deepspeed_section
from qwensft_operator.render.names import (
    ADAPTER_MOUNT,
    CACHE,
    adapter_run,
    below,
    dataset_directory,
    model_path,
    run_directory,
    secret_directory,
    source_run,
    tracker_secrets,
)

# Of run.yaml. Readers of 1 would leave evaluations and control tokens undone, those of 2 a comparison with a model, and
# those of 3 would train a new adapter.
RUN_VERSION = 4

# Every column and tag is written out, but for what came later and the trainer knows by itself (alpaca's tools): one
# name more would change the digests of jobs that never use it.
_MEDIA = {"images": "images", "videos": "videos"}
COLUMNS = {
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
        **_MEDIA,
    },
    "sharegpt": {"messages": "conversations", "system": "system", "tools": "tools", **_MEDIA},
    "openai": {"messages": "messages", "system": "system", "tools": "tools", **_MEDIA},
}
TAGS = {
    "sharegpt": {
        "role": "from",
        "content": "value",
        "user": "human",
        "assistant": "gpt",
        "observation": "observation",
        "function": "function_call",
        "system": "system",
    },
    "openai": {
        "role": "role",
        "content": "content",
        "user": "user",
        "assistant": "assistant",
        "observation": "tool",
        "function": "function_call",
        "system": "system",
    },
}


def run_document(job: QwenSFTJob, stage: Stage) -> dict[str, Any]:
    """Return the content of run.yaml. Only the merge is told where to merge to."""
    spec, meta = job.spec, job.metadata
    run: dict[str, Any] = {
        "version": _version(job),
        "operatorVersion": __version__,
        "owner": {"uid": meta.uid, "namespace": meta.namespace, "name": meta.name},
        "runDirectory": run_directory(job),
        "onExisting": spec.storage.on_existing,
        "model": _model(job),
        "datasets": [_dataset(dataset) for dataset in spec.datasets],
        "tuning": _tuning(job),
        "accelerator": {"count": spec.worker.accelerator.count},
        "mixing": {"strategy": spec.mix_strategy},
    }
    if spec.evaluation is not None and spec.evaluation.samples > 0:
        # In a section of its own: what is shown changes nothing that is learnt, and so no digest (docs/adr/0075).
        run["samples"] = {"count": spec.evaluation.samples}
    if spec.evaluation is not None and spec.evaluation.has_rows:
        run["evaluation"] = (
            {"datasets": [_dataset(dataset) for dataset in spec.evaluation.datasets]}
            if spec.evaluation.datasets
            else {"fraction": spec.evaluation.fraction}
        ) | _selection(spec.evaluation)
    if spec.training.report_to is not None:
        run["trackers"] = _trackers(job, spec.training.report_to)
    if spec.prepare.preview != "File":
        run["prepare"] = {"preview": spec.prepare.preview}
    if (deepspeed := deepspeed_section(job)) is not None:
        run["deepspeed"] = deepspeed
    if stage is Stage.MERGE:
        directory = f"{run_directory(job)}/{spec.merge.effective_path}"
        run["merge"] = _given(
            {
                "directory": directory,
                "engine": spec.merge.engine,
                "shardSize": spec.merge.shard_size_gb,
                "verify": spec.merge.verify,
                "dtype": spec.merge.dtype,
            }
        )
    else:
        run["mergePlanned"] = spec.merge.enabled  # prepare refuses what trains but cannot be merged
    return run


def _version(job: QwenSFTJob) -> int:
    """The lowest whose readers do all that is written."""
    if adapter_run(job) is not None:
        return RUN_VERSION
    if source_run(job) is not None:
        return 3
    evaluation = job.spec.evaluation
    strict = any(dataset.control_tokens == "Refuse" or dataset.ignore for dataset in job.spec.all_datasets)
    return 2 if strict or (evaluation is not None and evaluation.compares) else 1


def _selection(evaluation: Evaluation) -> dict[str, Any]:
    """What evaluations decide; nothing where they decide nothing, as for runs of earlier versions."""
    selection: dict[str, Any] = {"keepBest": True} if evaluation.keep_best else {}
    if (stopping := evaluation.early_stopping) is not None:
        selection["earlyStopping"] = {"patience": stopping.patience, "minDelta": stopping.min_delta}
    return selection


def _model(job: QwenSFTJob) -> dict[str, Any]:
    model = job.spec.model
    hub, begun, adapter = model.hub, source_run(job), adapter_run(job)
    download = hub and {
        "hub": "huggingFace" if model.effective_source.hugging_face else "modelScope",
        "repo": hub.repo or model.name,
        "revision": hub.revision,
        "endpoint": hub.endpoint,
    }
    return _given(
        {
            "name": model.name,
            "path": model_path(job),
            "template": model.effective_template,
            "download": download and _given(download),
            "cache": model.cache and below(CACHE, model.cache.path),
            "mergedBy": begun and _of_a_run(begun),
            "adapter": adapter and _of_a_run(adapter) | {"path": below(ADAPTER_MOUNT, adapter.path)},
        }
    )


def _of_a_run(begun: SourceRun) -> dict[str, str]:
    return {"name": begun.name, "uid": begun.uid, "digest": begun.digest}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": dataset.name, "format": dataset.format}
    source = dataset.source
    if source.volume is not None:
        entry["path"] = f"{dataset_directory(dataset)}/{source.volume.path}"
    elif source.config_map is not None:
        entry["path"] = f"{dataset_directory(dataset)}/{source.config_map.key}"
    else:
        entry["download"] = _download(dataset)
    entry["columns"] = COLUMNS[dataset.format] | (dataset.columns.document() if dataset.columns else {})
    if dataset.format in TAGS:
        tags = TAGS[dataset.format] | (dataset.tags.document() if dataset.tags else {})
        entry["tags"] = {f"{name}_tag": value for name, value in tags.items()}
    if dataset.control_tokens is not None:
        entry["controlTokens"] = dataset.control_tokens
    if dataset.ignore:
        entry["ignore"] = dataset.ignore
    if dataset.sample_count is not None:
        entry["sampleCount"] = dataset.sample_count
    if dataset.weight is not None:
        entry["weight"] = dataset.weight
    return entry


def _download(dataset: Dataset) -> dict[str, Any]:
    source = dataset.source
    where: dict[str, Any]
    if source.url is not None:
        url = source.url
        where = {"hub": "url", "url": url.url, "sha256": url.sha256, "endpoint": url.endpoint}
        has_credentials = url.credentials_secret_ref is not None
    elif (hub := source.hugging_face or source.model_scope) is not None:
        where = {
            "hub": "huggingFace" if source.hugging_face else "modelScope",
            "repo": hub.repo,
            "subset": hub.subset,
            "split": hub.split,
            "revision": hub.revision,
            "path": hub.path,
            "endpoint": hub.endpoint,
        }
        has_credentials = hub.token_secret_ref is not None
    else:
        raise ValueError(f"dataset {dataset.name} has no source")
    if has_credentials:
        where["credentials"] = secret_directory(dataset)
    return _given(where)


def _trackers(job: QwenSFTJob, report: ReportTo) -> dict[str, Any]:
    """The trackers. Readers that do not know the section train as well, and report nowhere."""
    meta = job.metadata
    trackers: dict[str, Any] = {"runName": report.run_name or meta.name, "group": report.group, "tags": report.tags}
    if report.tensorboard is not None:
        trackers["tensorboard"] = {}
    if (mlflow := report.mlflow) is not None:
        trackers["mlflow"] = _given(
            {
                "endpoint": mlflow.endpoint,
                "experiment": mlflow.experiment or meta.namespace,
                "credentials": tracker_secrets("mlflow") if mlflow.credentials_secret_ref else None,
            }
        )
    if (wandb := report.wandb) is not None:
        trackers["wandb"] = _given(
            {
                "endpoint": wandb.endpoint,
                "project": wandb.project or meta.namespace,
                "entity": wandb.entity,
                "mode": wandb.mode,
                "credentials": tracker_secrets("wandb") if wandb.api_key_secret_ref else None,
            }
        )
    return _given(trackers)


def _tuning(job: QwenSFTJob) -> dict[str, Any]:
    tuning = job.spec.tuning
    described: dict[str, Any] = {"method": tuning.finetuning_type}
    if tuning.effective_quantization is not None:
        quantization = tuning.effective_quantization
        described["quantization"] = {"bits": quantization.bits, "method": quantization.method}
    if tuning.method == "dora":
        described["dora"] = True
    if tuning.effective_lora is not None and tuning.effective_lora.pissa:
        described["pissa"] = True
    return described


def _given(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}
