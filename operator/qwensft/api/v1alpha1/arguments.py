"""`spec.extraArguments`: LLaMA-Factory arguments without a field of their own, and the list of those it refuses.

An argument is refused when a field sets it, when the operator or the trainer sets it, or when it would break resuming
or merging without a word. The fields' arguments are collected from the models, so the list cannot fall behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import BaseModel, Field

from .base import ARGUMENT, Rule, nested_model
from .merge import Merge
from .model import Model
from .training import Training
from .tuning import Tuning

_KEY = r"^[a-z][a-z0-9_]{0,62}$"

_MANAGED: Final[dict[str, str]] = {
    # a field decides, under another name or together with others
    "model_name_or_path": "use spec.model.name and spec.model.source",
    "model_revision": "use spec.model.source.huggingFace.revision",
    "dataset": "use spec.datasets",
    "dataset_dir": "use spec.datasets",
    "output_dir": "use spec.storage.path",
    "overwrite_output_dir": "use spec.storage.onExisting",
    "fp16": "use spec.training.precision",
    "pure_bf16": "use spec.training.precision",
    "gradient_checkpointing": "use spec.training.gradientCheckpointing",
    "save_strategy": "use spec.training.saveSteps",
    "logging_strategy": "use spec.training.loggingSteps",
    "use_cpu": "use spec.worker.accelerator.count: 0",
    "master_addr": "use spec.distribution",
    "master_port": "use spec.distribution.masterPort",
    "local_rank": "use spec.distribution",
    "hf_hub_token": "use spec.model.source.huggingFace.tokenSecretRef",
    "ms_hub_token": "use spec.model.source.modelScope.tokenSecretRef",
    # secrets do not belong into a resource that everybody may read
    "om_hub_token": "use spec.worker.env with a secretKeyRef",
    "hub_token": "use spec.worker.env with a secretKeyRef",
    "swanlab_api_key": "use spec.worker.env with a secretKeyRef",
    # the operator's or the trainer's own business
    **dict.fromkeys(
        (
            "cache_dir",
            "ddp_backend",
            "do_eval",
            "do_predict",
            "do_train",
            "enable_jit_checkpoint",
            "export_legacy_format",
            "logging_dir",
            "overwrite_cache",
            "predict_with_generate",
            "resume_from_checkpoint",
            "stage",
            "tokenized_path",
            "use_fast_tokenizer",
        ),
        "the operator sets it itself: remove it",
    ),
    # would end in a wrong model or a run that cannot go on, and not in an error
    "adapter_name_or_path": "training starts from the base model: remove it",
    "create_new_adapter": "training starts from the base model: remove it",
    "save_only_model": "a restart needs whole checkpoints: remove it",
    **dict.fromkeys(("interleave_probs", "max_samples", "mix_strategy"), "use spec.datasets[].sampleCount"),
    "streaming": "the prepare stage tokenises all rows beforehand: remove it",
    **dict.fromkeys(
        ("add_special_tokens", "add_tokens", "new_special_tokens_config", "pissa_init", "resize_vocab", "rope_scaling"),
        "the merge would not know of it: remove it",
    ),
    **dict.fromkeys(
        ("deepspeed", "fsdp", "fsdp_config", "use_hyper_parallel", "use_mca"),
        "this version trains with DistributedDataParallel only: remove it",
    ),
}


def _typed_arguments(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        location = f"{path}.{field.serialization_alias or name}"
        extra = field.json_schema_extra
        if isinstance(extra, dict) and ARGUMENT in extra:
            yield str(extra[ARGUMENT]), f"use {location}"
        if nested := nested_model(field.annotation):
            yield from _typed_arguments(nested, location)


def _refused() -> dict[str, str]:
    refused = dict(_MANAGED)
    for path, model in (("model", Model), ("tuning", Tuning), ("training", Training), ("merge", Merge)):
        for argument, advice in _typed_arguments(model, f"spec.{path}"):
            refused.setdefault(argument, advice)
    return dict(sorted(refused.items()))


REFUSED_ARGUMENTS: Final = _refused()
"""LLaMA-Factory argument -> what to do instead."""


def _refused_keys(arguments: dict[str, str]) -> list[str]:
    return sorted(key for key in arguments if key in REFUSED_ARGUMENTS or key.startswith("export_"))


def _advice(arguments: dict[str, str]) -> str:
    return "; ".join(f"{key}: {REFUSED_ARGUMENTS.get(key, 'use spec.merge')}" for key in _refused_keys(arguments))


_TABLE = "{" + ", ".join(f"'{key}': '{advice}'" for key, advice in REFUSED_ARGUMENTS.items()) + "}"

ExtraArguments = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    Field(max_length=64),
    Rule(
        cel=f"self.all(key, key.matches('{_KEY}'))",
        message="keys are LLaMA-Factory arguments in snake_case, without dashes: for example neftune_noise_alpha",
        check=lambda arguments: all(re.fullmatch(_KEY, key) for key in arguments),
    ),
    Rule(
        cel=f"self.all(key, !key.startsWith('export_') && !(key in {list(REFUSED_ARGUMENTS)}))",
        message="an argument here belongs to a field of the spec or to the operator: use the field, or remove it",
        check=lambda arguments: not _refused_keys(arguments),
        message_cel=f"[{_TABLE}].map(table, self.filter(key, key.startsWith('export_') || key in table)"
        ".map(key, key + ': ' + (key in table ? table[key] : 'use spec.merge')))[0].join('; ')",
        explain=_advice,
    ),
]
