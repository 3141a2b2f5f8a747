"""`spec.extraArguments`: LLaMA-Factory arguments without a field of their own, and the list of those it refuses.

An argument is refused when a field sets it, when the operator or the trainer sets it, or when it would break resuming
or merging without a word. The fields' arguments are collected from the models, so the list cannot fall behind them.
ADR 0024 and ADR 0070 say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from .base import Rule, arguments_of, nested_model
from .datasets import Dataset
from .distribution import Distribution
from .evaluation import Evaluation
from .merge import Merge
from .model import Model
from .storage import Storage
from .training import Training
from .tuning import Tuning
from .worker import Worker

_KEY = r"^[a-z][a-z0-9_]{0,62}$"

OPERATOR_SET: Final[dict[str, tuple[str, str]]] = {
    "stage": ("`sft`", "this operator does supervised fine-tuning"),
    "do_train": ("`true`", "this operator trains"),
    "use_fast_tokenizer": ("`true`", "LLaMA-Factory's default; transformers 5 has no other one for Qwen"),
    "dataset_dir": (
        "`data` in the run's directory",
        "the prepare stage writes the checked rows and dataset_info.json there",
    ),
    "media_dir": ("`data` in the run's directory", "the prepare stage copies images and videos there"),
    "tokenized_path": (
        "`data/tokenized` in the run's directory",
        "rows are tokenised once, before any accelerator is held",
    ),
    "overwrite_cache": ("`true`", "as in the guide; nothing is cached beyond the tokenised rows"),
    "cache_dir": ("a scratch directory", "downloads go to the volume, not to a hidden cache"),
    "resume_from_checkpoint": ("the newest complete checkpoint", "an attempt goes on from where the last one ended"),
    "logging_nan_inf_filter": ("`false`", "a loss that is no number has to be seen, not smoothed away"),
    "export_legacy_format": ("`false`", "transformers 5 writes safetensors only"),
    "adapter_name_or_path": (
        "what the training wrote",
        "an adapter is merged into the base that it was trained on; `spec.model.adapter` names one to train on",
    ),
}
"""LLaMA-Factory argument -> the value that the operator or the trainer gives it, and why users cannot."""

OPERATOR_DEFAULTS: Final[dict[str, tuple[str, str]]] = {
    "report_to": ("`none`", "spec.training.reportTo names the trackers, and a process beside the training reports"),
    "disable_tqdm": ("`true`", "progress bars fill the log"),
    "metric_for_best_model": ("`eval_loss`, with keepBest or earlyStopping", "the loss is what they compare"),
    "greater_is_better": ("`false`, with keepBest or earlyStopping", "a lower loss is better"),
}
"""LLaMA-Factory argument -> the value that the operator gives it unless extraArguments gives another, and why."""

_MANAGED: Final[dict[str, str]] = {
    # a field decides, under another name or together with others
    "model_revision": "use spec.model.source.huggingFace.revision",
    "gradient_checkpointing": "use spec.training.gradientCheckpointing",
    "max_samples": "use spec.datasets[].sampleCount",
    "save_strategy": "use spec.training.saveSteps",
    "logging_strategy": "use spec.training.loggingSteps",
    "master_addr": "use spec.distribution",
    "master_port": "use spec.distribution.masterPort",
    "local_rank": "use spec.distribution",
    "hf_hub_token": "use spec.model.source.huggingFace.tokenSecretRef",
    "ms_hub_token": "use spec.model.source.modelScope.tokenSecretRef",
    # secrets do not belong into a resource that everybody may read
    "om_hub_token": "use spec.worker.env with a secretKeyRef",
    "swanlab_api_key": "use spec.worker.env with a secretKeyRef",
    # the operator's or the trainer's own business
    **dict.fromkeys(
        ("ddp_backend", "do_predict", "enable_jit_checkpoint", "logging_dir", "predict_with_generate"),
        "the operator decides it: remove it",
    ),
    # would end in a wrong model or a run that cannot go on, and not in an error
    "adapter_name_or_path": "use spec.model.adapter",
    "create_new_adapter": "an adapter is new, or trained on (spec.model.adapter): remove it",
    "save_only_model": "a restart needs whole checkpoints: remove it",
    "streaming": "the prepare stage tokenises all rows beforehand: remove it",
    "auto_find_batch_size": "a restart would go on with other steps: set spec.training.perDeviceTrainBatchSize",
    "save_on_each_node": "all nodes write to one volume, and would overwrite the files of each other: remove it",
    "pissa_convert": "the operator converts the adapter: use spec.tuning.lora.pissa",
    **dict.fromkeys(
        ("new_special_tokens_config", "rope_scaling", "train_from_scratch"),
        "the merge would not know of it: remove it",
    ),
    # would fail while accelerators are held
    **dict.fromkeys(
        (
            "push_to_hub",
            # and what has an effect with push_to_hub alone
            "hub_always_push",
            "hub_model_id",
            "hub_private_repo",
            "hub_revision",
            "hub_strategy",
            "hub_token",
        ),
        "training pods reach no hub: remove it, and upload what status.outputs names",
    ),
    "use_swanlab": "training pods report by spec.training.reportTo, to TensorBoard, MLflow and W&B: remove it",
    **dict.fromkeys(
        ("apollo_layerwise", "galore_layerwise"), "layer by layer is for one process without torchrun: remove it"
    ),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "use_hyper_parallel", "use_mca"),
        "training is sharded by DeepSpeed: use spec.distribution.deepspeed",
    ),
}


@dataclass(frozen=True, slots=True)
class TypedField:
    """A field of the spec that sets LLaMA-Factory arguments."""

    path: str
    arguments: list[str]
    info: FieldInfo


def _fields(model: type[BaseModel], path: str) -> Iterator[TypedField]:
    for name, field in model.model_fields.items():
        location = f"{path}.{field.serialization_alias or name}"
        if names := arguments_of(field):
            yield TypedField(location, names, field)
        if nested := nested_model(field.annotation):
            yield from _fields(nested, location)


# Evaluation sets are left to the field that names them: their parts are those of training sets.
TYPED_FIELDS: Final = tuple(
    field
    for path, model in (
        ("spec.model", Model),
        ("spec.datasets[]", Dataset),
        ("spec.evaluation", Evaluation),
        ("spec.tuning", Tuning),
        ("spec.training", Training),
        ("spec.distribution", Distribution),
        ("spec.worker", Worker),
        ("spec.storage", Storage),
        ("spec.merge", Merge),
    )
    for field in _fields(model, path)
    if not field.path.startswith("spec.evaluation.datasets.")
)
"""Every field that sets arguments, in the order of the spec."""


def _refused() -> dict[str, str]:
    refused = _MANAGED | {
        name: "the operator sets it itself: remove it" for name in OPERATOR_SET if name not in _MANAGED
    }
    for field in TYPED_FIELDS:
        for name in field.arguments:
            refused.setdefault(name, f"use {field.path}")
    return dict(sorted(refused.items()))


REFUSED_ARGUMENTS: Final = _refused()
"""LLaMA-Factory argument -> what to do instead."""


_EXPORT_FIELDS = [name for name in REFUSED_ARGUMENTS if name.startswith("export_")]


def _advice(arguments: dict[str, str]) -> list[str]:
    named = [f"{key}: {advice}" for key, advice in REFUSED_ARGUMENTS.items() if key in arguments]
    others = (key for key in arguments if key.startswith("export_") and key not in _EXPORT_FIELDS)
    return [*named, *(f"{key}: use spec.merge" for key in others)]


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
        check=lambda arguments: not _advice(arguments),
        # The list of keys gives the order: the apiserver has none for the keys of a map.
        message_cel=f"[{_TABLE}].map(table, {list(REFUSED_ARGUMENTS)}.filter(key, key in self)"
        ".map(key, key + ': ' + table[key]) + self.filter(key, key.startsWith('export_') && !(key in table))"
        ".map(key, key + ': use spec.merge'))[0].join('; ')",
        explain=lambda arguments: "; ".join(_advice(arguments)),
    ),
    Rule(
        cel="!('report_to' in self) || self['report_to'] == 'none'",
        message="report_to: use spec.training.reportTo, which also says where to and by which credentials: remove it "
        "or set none",
        check=lambda arguments: arguments.get("report_to", "none") == "none",
    ),
]
