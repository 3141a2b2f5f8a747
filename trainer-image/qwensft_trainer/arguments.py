"""Completes the operator's train.yaml and export.yaml with what only the pod knows: directories, checkpoint, device.

Pure functions from mappings to mappings; LLaMA-Factory's own parser judges the result.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.config import Run
from qwensft_trainer.errors import invalid_config

Arguments = dict[str, Any]

# They describe the accelerator of the training pods and are refused by torch in a pod that has none.
_ACCELERATOR_ONLY = ("bf16", "fp16", "tf32", "pure_bf16", "fp8", "deepspeed", "fsdp", "fsdp_config", "optim")

_TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def training_arguments(arguments: Mapping[str, Any], run: Run, *, output: Path, resume: Path | None) -> Arguments:
    """train.yaml for one attempt. `resume` is the checkpoint to go on from; without it training starts afresh."""
    completed = _common(arguments, run, output)
    completed["include_num_input_tokens_seen"] = completed.get("include_num_input_tokens_seen", "all")
    if resume is not None:
        completed["resume_from_checkpoint"] = str(resume)
    if run.accelerator.count == 0:
        completed |= {"use_cpu": True, "dataloader_pin_memory": False}
    return completed


def tokenising_arguments(
    arguments: Mapping[str, Any], run: Run, *, output: Path, cache: Path, tokenized: Path
) -> Arguments:
    """train.yaml as the preparation pod uses it: the same data arguments, on a CPU, written to `tokenized`."""
    completed = {key: value for key, value in _common(arguments, run, output).items() if key not in _ACCELERATOR_ONLY}
    return completed | {
        "use_cpu": True,
        "cache_dir": str(cache),
        "tokenized_path": str(tokenized),
        "dataset_dir": str(run.data_directory),
        "model_name_or_path": str(run.model.path),
    }


def export_arguments(
    arguments: Mapping[str, Any], run: Run, *, trained: Path, export_to: Path, dtype: str
) -> Arguments:
    """export.yaml with its directories. `dtype` is bf16, fp16 or fp32; a full fine-tune is exported without adapter."""
    completed = dict(arguments) | {
        "export_dir": str(export_to),
        "infer_dtype": _TORCH_DTYPES[dtype],
        "finetuning_type": run.tuning.method,
    }
    if run.tuning.method == "lora":
        completed |= {"model_name_or_path": str(run.model.path), "adapter_name_or_path": str(trained)}
    else:
        completed["model_name_or_path"] = str(trained)
        completed.pop("adapter_name_or_path", None)
    if completed.get("export_legacy_format"):
        raise invalid_config("export_legacy_format: true is not supported: transformers 5 writes safetensors only.")
    # A merge happens on the unquantised base: LLaMA-Factory refuses to merge into a quantised model.
    completed.pop("quantization_bit", None)
    return completed


def check_attention(arguments: Mapping[str, Any]) -> None:
    """LLaMA-Factory only warns when flash-attn is missing and trains slowly. Raises PermanentError InvalidConfig."""
    if arguments.get("flash_attn") == "fa2" and importlib.util.find_spec("flash_attn") is None:
        raise invalid_config(
            "spec.model.attention is fa2, but this trainer image holds no flash-attn package. Set spec.model.attention "
            "to auto or sdpa, or spec.worker.image to an image built with --target trainer-flash-attn."
        )


def _common(arguments: Mapping[str, Any], run: Run, output: Path) -> Arguments:
    return dict(arguments) | {
        "output_dir": str(output),
        # The directory is fresh per attempt; this keeps LLaMA-Factory from looking for a checkpoint of its own there.
        "overwrite_output_dir": True,
        # The filter replaces a NaN loss by the last good one: divergence would go unseen.
        "logging_nan_inf_filter": False,
        "report_to": arguments.get("report_to", "none"),
        "disable_tqdm": arguments.get("disable_tqdm", True),
        "trust_remote_code": arguments.get("trust_remote_code", False),
    }
