"""Rules on an adapter that is trained on: LLaMA-Factory and peft take what its files say, whatever the job says beside.

So the job has to say the same, and the base has to be the one that the adapter was trained on. The operator compares
the two specs before; here the files are asked.
ADR 0195 says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.config import Adapter
from qwensft_trainer.contract.errors import invalid_config, invalid_model
from qwensft_trainer.model import fingerprint, safetensors_header
from qwensft_trainer.model.checks import modules
from qwensft_trainer.model.checks.checked_job import CheckedJob, Rule

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_A, _B = ".lora_A.weight", ".lora_B.weight"
_OF_PEFT = "base_model.model."
# What peft's file says of what a field sets, and LLaMA-Factory's argument.
_SETTLED = (
    ("spec.tuning.lora.rank", "r", "lora_rank"),
    ("spec.tuning.lora.alpha", "lora_alpha", "lora_alpha"),
    ("spec.tuning.lora.dropout", "lora_dropout", "lora_dropout"),
    ("spec.tuning.lora.rslora", "use_rslora", "use_rslora"),
)


def _adapter(job: CheckedJob) -> Iterator[str]:
    adapter, directory = job.run.model.adapter, job.run.adapter_directory
    if adapter is None:
        return
    config = files.read_json_object(directory / CONFIG) or {}
    try:
        tensors = safetensors_header.read(directory / WEIGHTS).tensors
    except (OSError, ValueError) as error:
        raise invalid_model(f"{directory / WEIGHTS} of QwenSFTJob {adapter.name} cannot be read: {error}.") from error
    if changes := list(_changes(job, config, tensors)):
        raise invalid_config(
            f"The adapter of QwenSFTJob {adapter.name} can be trained on only as it is. Create this QwenSFTJob anew: "
            f"{'; '.join(changes)}."
        )
    _require_shapes(job, adapter, tensors)
    yield from _base(job, adapter)


def _changes(job: CheckedJob, config: dict[str, Any], tensors: Iterable[str]) -> Iterator[str]:
    """What the job would have to say, and does not."""
    alpha = config.get("lora_alpha")
    if isinstance(alpha, float) and not alpha.is_integer():
        yield "begin with its merged model (spec.model.source.run), as its alpha is no whole number"
        return
    if bool(config.get("use_dora")) != job.run.tuning.dora:
        yield f"set spec.tuning.method to {'dora' if config.get('use_dora') else 'lora or qlora'}"
    for field, key, argument in _SETTLED:
        has, says = config.get(key) or 0, job.arguments.get(argument) or 0
        if has != says:
            shown = (json.dumps(bool(value) if key.startswith("use") else value) for value in (has, says))
            yield "set {} to {} (it is {})".format(field, *shown)
    for field, there, wanted in (
        ("targets", modules.leaves(_modules(tensors)), modules.leaves(modules.adapted(job))),
        ("additionalTargets", set(config.get("modules_to_save") or ()), set(job.names("additional_target"))),
    ):
        if there != wanted:
            yield f"set spec.tuning.lora.{field} to {_listed(there)} (it is {_listed(wanted)})"


def _require_shapes(job: CheckedJob, adapter: Adapter, tensors: dict[str, dict[str, Any]]) -> None:
    """Of modules that the base calls alike; others transformers renames when it loads them."""
    for module in _modules(tensors):
        weight = job.model.tensors.get(f"{module}.weight")
        a, b = (tensors.get(f"{_OF_PEFT}{module}{end}", {}).get("shape", ()) for end in (_A, _B))
        fits = len(a) == len(b) == 2 and weight is not None and weight["shape"] == [b[0], a[1]]
        if weight is not None and job.model.quantization is None and not fits:
            raise _other_base(job, adapter, f"{module} has the shape {weight['shape']} there")


def _base(job: CheckedJob, adapter: Adapter) -> Iterator[str]:
    """Compare the weights with what the other run's prepare stage has recorded of its own.

    Once the copy is there, somebody may overwrite that run's directory: then the record is about another base.
    """
    directory = adapter.path.parents[1]  # of the run, which has the adapter in train/<attempt>
    recorded = (files.read_json_object(directory / "prepare.json") or {}).get("base")
    if workspace.owner_uid(directory) != adapter.uid:  # asked last: the owner changes before the record does
        recorded = None
    if recorded is None:
        yield (
            f"whether the adapter of {adapter.name} was trained on the very base of this run cannot be told: its "
            "directory holds no record of it, as of a run of an earlier version, or belongs to another run by now"
        )
    elif recorded != fingerprint.of(job.run.model.path):
        raise _other_base(job, adapter, "its weights are others")


def _other_base(job: CheckedJob, adapter: Adapter, why: str) -> Exception:
    return invalid_model(
        f"{job.run.model.path} is not the base that the adapter of QwenSFTJob {adapter.name} was trained on: {why}. "
        f"Create this QwenSFTJob anew with spec.model.name and source as {adapter.name} has them (of a hub, with the "
        "commit in its model.json as revision), or begin with its merged model (spec.model.source.run)."
    )


def _modules(tensors: Iterable[str]) -> list[str]:
    return [name.removeprefix(_OF_PEFT).removesuffix(_A) for name in tensors if name.endswith(_A)]


def _listed(names: Iterable[str]) -> str:
    return f"[{', '.join(sorted(names))}]"


RULES: tuple[Rule, ...] = (_adapter,)
