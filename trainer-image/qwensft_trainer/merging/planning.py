"""Plans a merge: which tensor of the base becomes which of the result, and which training has changed.

Names of parameters, by which adapters and checkpoints are stored, are transformers' part (tensor_names.py); it is
imported by the process that plans, which ends before the weights are written. ADR 0092 says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.merging import adapter, tensor_names, weights
from qwensft_trainer.merging.adapter import Changes, UnknownError
from qwensft_trainer.merging.plan import LowRank, Plan, Shard, Step
from qwensft_trainer.merging.weights import FLOATS, File, Tensor

_HEAD = "lm_head.weight"
_EMBEDDINGS = "embed_tokens.weight"
STORED_AS = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}

NameOf = Callable[[str], str]


def plan(
    base: Path, trained: Path, *, lora: bool, dtype: str | None, shard_bytes: int | None, trust: bool = False
) -> Plan:
    """The merge of an adapter (`lora`), or of a trained checkpoint, with its base.

    `dtype` is bf16, fp16 or fp32 for all weights, None for that of each in the base. With `shard_bytes` files are at
    most so large, or of one tensor; without, they are the base's. Raises UnknownError for what this engine does not
    know.
    """
    if (files.read_json_object(base / "config.json") or {}).get("quantization_config"):
        raise UnknownError("a base whose files are quantised")
    changed = adapter.changes(trained) if lora else {}
    name_of = tensor_names.module_names(base, trust=trust)
    if not lora:
        changed = _of_checkpoint(trained, name_of)
    stays_tied = not lora and _is_tied(trained) and _HEAD not in changed
    return assemble(
        weights.read_model(base),
        changed,
        name_of,
        dtype=dtype and STORED_AS[dtype],
        shard_bytes=shard_bytes,
        tied=_is_tied(base),
        stays_tied=stays_tied,
    )


def assemble(
    base: list[File],
    changes: Changes,
    name_of: NameOf,
    *,
    dtype: str | None = None,
    shard_bytes: int | None = None,
    tied: bool = False,
    stays_tied: bool = False,
) -> Plan:
    """The plan for `changes` by names of parameters. `tied` tells whether the base's output embeddings are its input's.

    `stays_tied`: training has kept it so. Raises UnknownError.
    """
    stored = {tensor.name: tensor for file in base for tensor in file.tensors}
    names = tensor_names.unique(stored, name_of)
    ins = next((name for name in names if name.endswith(_EMBEDDINGS)), "")
    untied = False
    if tied and stays_tied:
        if _HEAD in names and ins in changes:
            changes = {**changes, _HEAD: changes[ins]}
    elif tied:
        untied = bool({ins, _HEAD} & changes.keys())
    unmet = changes.keys() - names.keys() - ({_HEAD} if untied else set())
    if unmet:
        raise UnknownError(f"a change of {sorted(unmet)[0]}, which is no tensor of the base")
    by_file = {names[name]: change for name, change in changes.items() if name in names}
    shards = []
    for file in base:
        steps = [_step(tensor, by_file.get(tensor.name), dtype) for tensor in file.tensors]
        if untied and file is base[-1] and _HEAD not in names:
            steps.append(_head(stored[names[ins]], changes.get(_HEAD), dtype))
        shards.append(_shard(file, steps))
    touched = tuple(step.name for shard in shards for step in shard.steps if not _is_base(step, stored))
    return Plan(
        shards=tuple(shards if shard_bytes is None else _resharded(shards, shard_bytes)),
        untied=untied,
        rows=next((step.shape[0] for shard in shards for step in shard.steps if _has_grown(step, stored)), None),
        changed=touched,
    )


def _of_checkpoint(trained: Path, name_of: NameOf) -> Changes:
    """A checkpoint that full or freeze tuning has saved, by the names of parameters."""
    try:
        stored = {tensor.name: tensor for file in weights.read_model(trained) for tensor in file.tensors}
    except (ValueError, FileNotFoundError) as error:
        raise adapter.damaged(trained, str(error)) from error
    return {name: stored[own] for name, own in tensor_names.unique(stored, name_of).items()}


def _is_tied(directory: Path) -> bool:
    config = files.read_json_object(directory / "config.json") or {}
    text = config.get("text_config") or {}
    return bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))


def _step(tensor: Tensor, change: LowRank | Tensor | None, dtype: str | None) -> Step:
    wanted = dtype if dtype and tensor.dtype in FLOATS else tensor.dtype
    if change is None:
        return Step(name=tensor.name, dtype=wanted, shape=tensor.shape, source=tensor)
    if tensor.dtype not in FLOATS or (isinstance(change, Tensor) and change.dtype not in FLOATS):
        raise UnknownError(f"a change of {tensor.name}, which is {tensor.dtype}")
    if isinstance(change, Tensor):
        if change.shape[1:] != tensor.shape[1:]:
            raise UnknownError(
                f"{tensor.name} of shape {list(change.shape)}, which is {list(tensor.shape)} in the base"
            )
        return Step(name=tensor.name, dtype=wanted, shape=change.shape, source=change)
    if tensor.shape != (change.b.shape[0], change.a.shape[1]):
        raise UnknownError(f"an adapter of {tensor.name} for another shape than {list(tensor.shape)}")
    return Step(name=tensor.name, dtype=wanted, shape=tensor.shape, source=tensor, change=change)


def _head(embeddings: Tensor, change: LowRank | Tensor | None, dtype: str | None) -> Step:
    """Output embeddings of their own: those that were trained, else what the input's were before the training."""
    if isinstance(change, LowRank):
        raise UnknownError("an adapter of output embeddings that are the input's")
    source = change or embeddings
    return Step(name=_HEAD, dtype=dtype or embeddings.dtype, shape=source.shape, source=source)


def _shard(file: File, steps: list[Step]) -> Shard:
    """The base's file; with its header as it is where that still holds."""
    before = [(tensor.name, tensor.dtype, tensor.shape) for tensor in file.tensors]
    same = before == [(step.name, step.dtype, step.shape) for step in steps]
    like = file.path if same else None
    return Shard(name=file.path.name, steps=tuple(steps), metadata=file.metadata, like=like)


def _resharded(shards: Iterable[Shard], most: int) -> list[Shard]:
    """The same tensors in their order, in files of at most `most` bytes, or of one tensor."""
    parts: list[list[Step]] = []
    room = 0
    metadata: dict[str, str] = {}
    for shard in shards:
        metadata = metadata or shard.metadata
        for step in shard.steps:
            if step.size > room:
                parts.append([])
                room = most
            parts[-1].append(step)
            room -= step.size
    names = _names(len(parts))
    return [Shard(name=next(names), steps=tuple(steps), metadata=metadata) for steps in parts]


def _names(count: int) -> Iterator[str]:
    if count == 1:
        yield "model.safetensors"
    else:
        yield from (f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1))


def _is_base(step: Step, stored: Mapping[str, Tensor]) -> bool:
    return step.change is None and stored.get(step.name) == step.source


def _has_grown(step: Step, stored: Mapping[str, Tensor]) -> bool:
    return step.name in stored and step.shape != stored[step.name].shape


def index_of(plan: Plan, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """model.safetensors.index.json of several files, None for one. `before` is the base's, whose metadata stay."""
    if [shard.name for shard in plan.shards] == ["model.safetensors"]:
        return None
    names = {step.name: shard.name for shard in plan.shards for step in shard.steps}
    metadata = {**((before or {}).get("metadata") or {}), "total_size": plan.size}
    return {"metadata": metadata, "weight_map": dict(sorted(names.items()))}
