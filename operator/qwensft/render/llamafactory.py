"""LLaMA-Factory's arguments for training and export, from the typed fields.

The names and the defaults are those of Qwen's documentation page on LLaMA-Factory. What differs between attempts
(output_dir, resume_from_checkpoint) or is known only on the volume (the adapter's path) is filled in by the trainer.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.render.names import model_path, run_directory

ATTENTION = {"auto": "auto", "fa2": "fa2", "sdpa": "sdpa", "eager": "disabled"}
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
DTYPE = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def train_arguments(job: QwenSFTJob) -> dict[str, Any]:
    """Return the arguments that prepare (tokenising) and train share, the same for every attempt."""
    spec = job.spec
    data = f"{run_directory(job)}/data"
    return {
        **_model(job),
        "flash_attn": ATTENTION[spec.model.attention],
        "stage": "sft",
        "do_train": True,
        "dataset": ",".join(d.name for d in spec.datasets),
        "dataset_dir": data,
        "tokenized_path": f"{data}/tokenized",
        "overwrite_cache": True,
        **_tuning(job),
        **_training(job),
        **{key: _value(text) for key, text in spec.extra_arguments.items()},
    }


def export_arguments(job: QwenSFTJob) -> dict[str, Any]:
    """Return the arguments of the merge, without adapter_name_or_path and export_dir."""
    merge = job.spec.merge
    return {
        **_model(job),
        "finetuning_type": job.spec.tuning.method,
        "export_size": merge.shard_size_gb,
        "export_device": merge.device,
        "export_legacy_format": False,
        # Without it LLaMA-Factory loads a bf16 model as fp32 where there is no GPU. The trainer resolves auto.
        "infer_dtype": DTYPE[merge.dtype],
    }


def _model(job: QwenSFTJob) -> dict[str, Any]:
    model = job.spec.model
    arguments: dict[str, Any] = {
        "model_name_or_path": model_path(job),
        "template": model.effective_template,
        "trust_remote_code": model.trust_remote_code,
        "use_fast_tokenizer": True,
    }
    if model.enable_thinking is not None:
        arguments["enable_thinking"] = model.enable_thinking
    return arguments


def _tuning(job: QwenSFTJob) -> dict[str, Any]:
    tuning = job.spec.tuning
    lora = tuning.effective_lora
    if lora is None:
        return {"finetuning_type": tuning.method}
    arguments: dict[str, Any] = {
        "finetuning_type": "lora",
        "lora_rank": lora.rank,
        "lora_alpha": lora.effective_alpha,
        "lora_dropout": lora.dropout,
        "lora_target": ",".join(lora.targets),
        "use_rslora": lora.rslora,
    }
    if lora.additional_targets:
        arguments["additional_target"] = ",".join(lora.additional_targets)
    return arguments


def _training(job: QwenSFTJob) -> dict[str, Any]:
    training = job.spec.training
    arguments: dict[str, Any] = {
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "weight_decay": training.weight_decay,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "cutoff_len": training.cutoff_len,
        "packing": training.packing,
        "disable_gradient_checkpointing": not training.gradient_checkpointing,
        "seed": training.seed,
        "logging_steps": training.logging_steps,
        "save_steps": training.save_steps,
        "save_total_limit": training.save_total_limit,
        "plot_loss": training.plot_loss,
        "ddp_timeout": training.ddp_timeout_seconds,
        "include_num_input_tokens_seen": True,
        "report_to": "none",
    }
    if training.max_steps is not None:
        arguments["max_steps"] = training.max_steps
    else:
        arguments["num_train_epochs"] = training.effective_epochs
    if training.warmup_ratio is not None:
        arguments["warmup_ratio"] = training.warmup_ratio
    else:
        arguments["warmup_steps"] = training.effective_warmup_steps
    if training.precision != "fp32":
        arguments[training.precision] = True
    if job.spec.worker.accelerator.count == 0:
        arguments["use_cpu"] = True  # else bf16 is refused without a GPU
    return arguments


def _value(text: str) -> Any:
    """Read a YAML scalar as LLaMA-Factory's loader does; anything else stays text, such as a mapping in JSON."""
    if _EXPONENT.fullmatch(text):
        return float(text)  # PyYAML takes 1e-4 for text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, str | int | float) else text
