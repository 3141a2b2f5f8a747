"""Completes the operator's train.yaml and export.yaml with what only the pod knows: directories, checkpoint, template.

From mappings to mappings; LLaMA-Factory's own parser judges the result. Nothing is written here, and of the volume only
prepare.json is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import PermanentError, invalid_config

Arguments = dict[str, Any]

# How the base is loaded while an adapter trains on it. It is merged, and its tokenizer read, without them.
_QUANTIZATION = ("quantization_bit", "quantization_method", "quantization_type", "double_quantization")

# They describe the accelerator of the training pods and are refused by torch in a pod that has none.
_ACCELERATOR_ONLY = (
    *("bf16", "fp16", "tf32", "pure_bf16", "fp8", "deepspeed", "fsdp", "fsdp_config", "optim"),
    *_QUANTIZATION,
)

_PRECISIONS = {"bf16": "bf16", "pure_bf16": "bf16", "fp16": "fp16"}
_TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def training_arguments(arguments: Mapping[str, Any], run: Run, *, output: Path, resume: Path | None) -> Arguments:
    """train.yaml for one attempt. `resume` is the checkpoint to go on from; without it training starts afresh."""
    completed = _common(arguments, run, output)
    completed["template"] = template_of(arguments, run)
    if completed.get("include_num_input_tokens_seen") is True:  # of operators until 0.1, for figures
        del completed["include_num_input_tokens_seen"]
    if resume is not None:
        completed["resume_from_checkpoint"] = str(resume)
    if run.accelerator.count == 0:
        completed["dataloader_pin_memory"] = False
        # DeepSpeed finds the CPUs by itself (DS_ACCELERATOR) and fails when transformers has chosen them, too.
        completed.pop("use_cpu", None)
        if "deepspeed" not in completed:
            completed["use_cpu"] = True
    return completed


def tokenising_arguments(
    arguments: Mapping[str, Any], run: Run, *, output: Path, cache: Path, tokenized: Path
) -> Arguments:
    """train.yaml as the preparation pod uses it: the same data arguments, on a CPU, written to `tokenized`."""
    left_out = (*_ACCELERATOR_ONLY, "adapter_name_or_path")  # rows are tokenised alike whatever is trained on
    completed = {key: value for key, value in _common(arguments, run, output).items() if key not in left_out}
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
    """export.yaml with its directories. `dtype` is bf16, fp16 or fp32.

    An adapter is merged into the base as its files hold it; what full and freeze tuning left is a model by itself.
    Tokens that were added for training are added here, too (add_tokens, resize_vocab).
    """
    if arguments.get("export_legacy_format"):
        raise invalid_config("export_legacy_format: true is not supported: transformers 5 writes safetensors only.")
    completed = {name: value for name, value in arguments.items() if name not in _QUANTIZATION}
    completed |= {
        "template": template_of(arguments, run),
        "export_dir": str(export_to),
        "infer_dtype": _TORCH_DTYPES[dtype],
        "finetuning_type": run.tuning.method,
    }
    if run.tuning.method == "lora":
        return completed | {"model_name_or_path": str(run.model.path), "adapter_name_or_path": str(trained)}
    completed.pop("adapter_name_or_path", None)
    return completed | {"model_name_or_path": str(trained)}


def generation_arguments(arguments: Mapping[str, Any], run: Run) -> Arguments:
    """train.yaml for a process that answers with the base, in the number format in which it was trained on.

    Adapters are put onto it by that process: one that is trained on, then the trained one in its place.
    """
    completed = {name: value for name, value in arguments.items() if name != "adapter_name_or_path"}
    trained_in = next((dtype for name, dtype in _PRECISIONS.items() if arguments.get(name)), None)
    return completed | {
        "template": template_of(arguments, run),
        "model_name_or_path": str(run.model.path),
        "infer_dtype": _TORCH_DTYPES[trained_in] if trained_in else "auto",
    }


def template_of(arguments: Mapping[str, Any], run: Run) -> str:
    """The template that the spec names, or that prepare has found in the model's files."""
    template = arguments.get("template") or (files.read_json_object(run.prepare_result) or {}).get("template")
    if not isinstance(template, str):
        raise PermanentError(
            "PreparationMissing",
            f"{run.prepare_result} names no template, so this volume was not prepared by this version of the trainer: "
            "create the job again, or set spec.model.template.",
        )
    return template


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
