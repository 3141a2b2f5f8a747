"""LLaMA-Factory's arguments for training and export, from the typed fields.

The names and the defaults are those of Qwen's documentation page on LLaMA-Factory. What differs between attempts
(output_dir, resume_from_checkpoint) or is known only on the volume (the adapter's path) is filled in by the trainer.
ADR 0053 says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from qwensft.api.v1alpha1 import Lora, Quantization, QwenSFTJob
from qwensft_operator.render.deepspeed import deepspeed_argument
from qwensft_operator.render.names import adapter_directory, data_directory, model_path

ATTENTION = {"auto": "auto", "fa2": "fa2", "sdpa": "sdpa", "eager": "disabled"}
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
DTYPE = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_EMBEDDINGS = ("embed_tokens", "lm_head")  # of every Qwen model

_EXPORT_SIZE = 2  # GB, as in Qwen's example; the trainer lays the files out as spec.merge says


def train_arguments(job: QwenSFTJob) -> dict[str, Any]:
    """Return the arguments that prepare (tokenising) and train share, the same for every attempt."""
    spec = job.spec
    return {
        **_model(job),
        **_adapter(job),
        "flash_attn": ATTENTION[spec.model.attention],
        "stage": "sft",
        "do_train": True,
        **_data(job),
        **_tuning(job),
        **_training(job),
        **_evaluation(job),
        **_hardware(job),
        **{key: _value(text) for key, text in spec.extra_arguments.items()},
    }


def export_arguments(job: QwenSFTJob) -> dict[str, Any]:
    """Return the arguments of the merge, without adapter_name_or_path (the trained one) and export_dir.

    Nothing of the quantization: LLaMA-Factory merges into the base as its files hold it.
    """
    merge = job.spec.merge
    return {
        **_model(job),
        "finetuning_type": job.spec.tuning.finetuning_type,
        "export_size": merge.shard_size_gb or _EXPORT_SIZE,
        "export_device": merge.device,
        "export_legacy_format": False,
        # Without it LLaMA-Factory loads a bf16 model as fp32 where there is no GPU. The trainer resolves auto.
        "infer_dtype": DTYPE[merge.dtype],
    }


def _model(job: QwenSFTJob) -> dict[str, Any]:
    model = job.spec.model
    arguments: dict[str, Any] = {
        "model_name_or_path": model_path(job),
        "template": model.effective_template,  # None: prepare finds it out, and the trainer fills it in
        "trust_remote_code": model.trust_remote_code,
        "use_fast_tokenizer": True,
        "enable_thinking": model.enable_thinking,
        "add_tokens": _joined(model.add_tokens),
        "add_special_tokens": _joined(model.add_special_tokens),
        "resize_vocab": model.adds_tokens or None,
    }
    return _given(arguments)


def _adapter(job: QwenSFTJob) -> dict[str, Any]:
    """Of the training alone: the merge adds what it leaves to the base, once."""
    return {"adapter_name_or_path": adapter_directory(job)} if job.spec.model.adapter else {}


def _data(job: QwenSFTJob) -> dict[str, Any]:
    spec, data = job.spec, data_directory(job)
    arguments: dict[str, Any] = {
        "dataset": _joined(dataset.name for dataset in spec.datasets),
        "dataset_dir": data,
        "tokenized_path": f"{data}/tokenized",
        "overwrite_cache": True,
        "cutoff_len": spec.training.cutoff_len,
        "packing": spec.training.packing,
    }
    if spec.training.neat_packing:
        arguments["neat_packing"] = True
    return arguments


def _tuning(job: QwenSFTJob) -> dict[str, Any]:
    tuning = job.spec.tuning
    arguments: dict[str, Any] = {"finetuning_type": tuning.finetuning_type}
    if tuning.effective_lora is not None:
        arguments |= _lora(job, tuning.effective_lora)
    if tuning.effective_freeze is not None:
        arguments |= {
            "freeze_trainable_layers": tuning.effective_freeze.trainable_layers,
            "freeze_trainable_modules": _joined(tuning.effective_freeze.trainable_modules),
            "freeze_extra_modules": _joined(tuning.effective_freeze.extra_modules),
        }
    if tuning.effective_quantization is not None:
        arguments |= _quantization(tuning.effective_quantization)
    if tuning.vision is not None:
        arguments |= {
            "freeze_vision_tower": tuning.vision.freeze_tower,
            "freeze_multi_modal_projector": tuning.vision.freeze_projector,
            "freeze_language_model": tuning.vision.freeze_language_model,
        }
    return _given(arguments)


def _lora(job: QwenSFTJob, lora: Lora) -> dict[str, Any]:
    # LLaMA-Factory trains the rows of new tokens only as long as nobody names further modules.
    grown = _EMBEDDINGS if job.spec.model.adds_tokens else ()
    arguments: dict[str, Any] = {
        "lora_rank": lora.rank,
        "lora_alpha": lora.effective_alpha,
        "lora_dropout": lora.dropout,
        "lora_target": _joined(lora.targets),
        "additional_target": _joined(dict.fromkeys([*grown, *lora.additional_targets])),
        "use_rslora": lora.rslora,
        "loraplus_lr_ratio": lora.lora_plus_ratio,
    }
    if job.spec.tuning.method == "dora":
        arguments["use_dora"] = True
    if lora.pissa:
        arguments["pissa_init"] = True  # the trainer turns the result into an adapter of the original base
    return arguments


def _quantization(quantization: Quantization) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "quantization_method": quantization.method,
        "quantization_bit": quantization.bits,
    }
    if quantization.method == "bnb" and quantization.bits == 4:
        arguments |= {
            "quantization_type": quantization.type,
            "double_quantization": quantization.double_quantization,
        }
    return arguments


def _training(job: QwenSFTJob) -> dict[str, Any]:
    training = job.spec.training
    arguments: dict[str, Any] = {
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "weight_decay": training.weight_decay,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "disable_gradient_checkpointing": not training.gradient_checkpointing,
        "seed": training.seed,
        "logging_steps": training.logging_steps,
        "save_steps": training.save_steps,
        "save_total_limit": training.save_total_limit,
        "plot_loss": training.plot_loss,
        "ddp_timeout": training.ddp_timeout_seconds,
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
    if training.liger_kernel:
        arguments["enable_liger_kernel"] = True
    return arguments


def _evaluation(job: QwenSFTJob) -> dict[str, Any]:
    evaluation, training = job.spec.evaluation, job.spec.training
    if evaluation is None or not evaluation.has_rows:
        return {}
    return _given(
        {
            "do_eval": True,
            "eval_strategy": "steps",
            "eval_steps": evaluation.every_steps or training.save_steps,
            "per_device_eval_batch_size": evaluation.batch_size or training.per_device_train_batch_size,
            "val_size": evaluation.fraction,
            "eval_dataset": _joined(dataset.name for dataset in job.spec.evaluation_sets),
            # With 1 the trainer ends with the best checkpoint alone, and a pod lost then would train on from it.
            "save_total_limit": max(2, training.save_total_limit) if evaluation.compares else None,
            "metric_for_best_model": "eval_loss" if evaluation.compares else None,
            "greater_is_better": False if evaluation.compares else None,
        }
    )


def _hardware(job: QwenSFTJob) -> dict[str, Any]:
    deepspeed = deepspeed_argument(job)
    if deepspeed is not None:
        return {"deepspeed": deepspeed}  # finds the CPUs itself, and fails with use_cpu
    # Else bf16 is refused without a GPU.
    return {"use_cpu": True} if job.spec.worker.accelerator.count == 0 else {}


def _joined(names: Iterable[str]) -> str | None:
    """Return LLaMA-Factory's form of a list; None when it is empty."""
    return ",".join(names) or None


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without those that are None, which have LLaMA-Factory's default."""
    return {name: value for name, value in arguments.items() if value is not None}


def _value(text: str) -> Any:
    """Read a YAML scalar as LLaMA-Factory's loader does; anything else stays text, such as a mapping in JSON."""
    if _EXPONENT.fullmatch(text):
        return float(text)  # PyYAML takes 1e-4 for text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        return (
            text  # PyYAML's own words for `!!bool a`, `!!int ''` and the like are KeyError, IndexError, AttributeError
        )
    return value if value is None or isinstance(value, str | int | float) else text
