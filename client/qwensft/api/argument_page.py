"""The text of docs/arguments.md: every argument and the field that sets it.

It starts from the commands of Qwen's own guide, for readers who come from there; docs/reference.md reads the other way
round, from a field to its arguments.
ADR 0028 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .crd import NOTICE
from .reference import default_of
from .v1alpha1.arguments import OPERATOR_DEFAULTS, OPERATOR_SET, REFUSED_ARGUMENTS, TYPED_FIELDS

TRAIN_COMMAND: Final[dict[str, str]] = {
    "deepspeed": "$DS_CONFIG_PATH",
    "stage": "sft",
    "do_train": "true",
    "use_fast_tokenizer": "true",
    "flash_attn": "(no value)",
    "model_name_or_path": "$MODEL_PATH",
    "dataset": "your_dataset",
    "template": "qwen",
    "finetuning_type": "lora",
    "lora_target": "q_proj,v_proj",
    "output_dir": "$OUTPUT_PATH",
    "overwrite_cache": "true",
    "overwrite_output_dir": "true",
    "warmup_steps": "100",
    "weight_decay": "0.1",
    "per_device_train_batch_size": "4",
    "gradient_accumulation_steps": "4",
    "ddp_timeout": "9000",
    "learning_rate": "5e-6",
    "lr_scheduler_type": "cosine",
    "logging_steps": "1",
    "cutoff_len": "4096",
    "save_steps": "1000",
    "plot_loss": "true",
    "num_train_epochs": "3",
    "bf16": "true",
}
"""Arguments of the guide's training command and their values there."""

EXPORT_COMMAND: Final[dict[str, str]] = {
    "model_name_or_path": "path_to_base_model",
    "adapter_name_or_path": "path_to_adapter",
    "template": "qwen",
    "finetuning_type": "lora",
    "export_dir": "path_to_export",
    "export_size": "2",
    "export_legacy_format": "False",
}
"""Arguments of the guide's export command and their values there."""

_TORCHRUN: Final = (
    ("nproc_per_node", "`spec.distribution.processesPerNode`", "worker.accelerator.count, or 1 on CPUs"),
    ("nnodes", "`spec.distribution.nodes`", "`1`"),
    ("node_rank", "the operator", "the pod's index in its Job"),
    ("master_addr", "the operator", "the host name of pod 0"),
    ("master_port", "`spec.distribution.masterPort`", "`29500`"),
)

_INTRODUCTION: Final = f"""\
<!-- {NOTICE} -->
# Arguments of LLaMA-Factory

Which field sets which argument. What has no field goes into `spec.extraArguments`, name: value; the prepare stage lets
LLaMA-Factory's own parser read the result, so a misspelt name fails before any accelerator is held.
"""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_section(
                "The training command of Qwen's guide",
                ("argument", "in the guide", "set by", "default here"),
                (_of_command(name, value) for name, value in TRAIN_COMMAND.items()),
            ),
            *_section(
                "torchrun in the guide's training command",
                ("argument", "set by", "default here"),
                ((f"`--{name}`", setter, default) for name, setter, default in _TORCHRUN),
            ),
            *_section(
                "The export command of Qwen's guide",
                ("argument", "in the guide", "set by", "default here"),
                (_of_command(name, value) for name, value in EXPORT_COMMAND.items()),
            ),
            "`CUDA_VISIBLE_DEVICES=0` of the guide is `spec.merge: {engine: llamafactory, device: auto}`; by default "
            "the merge needs no GPU.\n",
            *_section(
                "Every field that sets an argument",
                ("field", "argument", "default of the field"),
                (
                    (f"`{field.path}`", ", ".join(f"`{name}`" for name in field.arguments), default_of(field.info))
                    for field in TYPED_FIELDS
                ),
            ),
            *_section(
                "What the operator sets by itself",
                ("argument", "value", "reason"),
                ((f"`{name}`", value, reason) for name, (value, reason) in OPERATOR_SET.items()),
            ),
            *_section(
                "What the operator sets unless extraArguments does",
                ("argument", "value", "reason"),
                ((f"`{name}`", value, reason) for name, (value, reason) in OPERATOR_DEFAULTS.items()),
            ),
            *_section(
                "Refused in extraArguments, beside all of the above",
                ("argument", "what to do instead"),
                ((f"`{name}`", advice) for name, advice in REFUSED_ARGUMENTS.items() if not _is_listed(name)),
            ),
            "Arguments that begin with `export_` belong to `spec.merge`.\n",
        ]
    )


def _section(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"## {title}\n"
    for row in (header, ["---"] * len(header), *rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _of_command(name: str, value: str) -> tuple[str, str, str, str]:
    for field in TYPED_FIELDS:
        if name in field.arguments:
            return f"`--{name}`", value, f"`{field.path}`", default_of(field.info)
    own, reason = OPERATOR_SET[name]
    return f"`--{name}`", value, f"the operator: {reason}", own


def _is_listed(name: str) -> bool:
    return name in OPERATOR_SET or any(name in field.arguments for field in TYPED_FIELDS)
