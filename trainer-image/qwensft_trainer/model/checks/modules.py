"""Rules on names of modules and numbers of layers that a job gives: do they exist in this model?

peft and LLaMA-Factory would say so only on the accelerators, or train something else in silence. The names come from
the headers of the weight files; LLaMA-Factory compares them as it does (llamafactory/model/adapter.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from qwensft_trainer.contract.errors import invalid_config
from qwensft_trainer.model.checks.checked_job import CheckedJob, Rule

_EMBEDDINGS = frozenset({"embed_tokens", "lm_head"})
_PROJECTOR = "visual.merger"
_PATCHES = "patch_embed"


def adapted(job: CheckedJob) -> frozenset[str]:
    """The modules that get an adapter, by the names of the base's files."""
    reachable, targets = _reachable(job), job.names("lora_target", "all")
    if targets == ["all"]:
        return frozenset(name for name in reachable if name.rpartition(".")[2] != "lm_head")
    return frozenset(name for name in reachable if any(_matches(job, name, target) for target in targets))


def leaves(names: Iterable[str]) -> set[str]:
    """The last parts of names of modules, but for numbers: q_proj, down_proj and the like."""
    return {name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()}


def _lora_targets(job: CheckedJob) -> Iterator[str]:
    if not job.has_adapter:
        return
    reachable = _reachable(job)
    targets = job.names("lora_target", "all")
    if targets == ["all"]:
        if not reachable:
            raise invalid_config("spec.tuning.vision leaves no module for the adapter: unfreeze one of its parts.")
        if job.model.experts:
            yield (
                f"lora.targets [all] trains {_listed(reachable - {'lm_head'})}, but not the experts, nearly all "
                "weights of this model: transformers 5 keeps them out of LoRA's reach"
            )
        return
    if job.model.tied and "lm_head" in targets:
        raise invalid_config(
            f"spec.tuning.lora.targets: lm_head of {job.run.model.name} is its input embeddings (tie_word_embeddings), "
            "and an adapter of the one would change the other. Remove it from targets, or name lm_head and "
            "embed_tokens in spec.tuning.lora.additionalTargets."
        )
    unmatched = [target for target in targets if not any(_matches(job, name, target) for name in reachable)]
    if unmatched:
        reason = " (experts are out of LoRA's reach in transformers 5)" if job.model.experts else ""
        raise invalid_config(
            f"spec.tuning.lora.targets: {', '.join(unmatched)} matches no module of {job.run.model.name}{reason}. "
            f"There are {_listed(reachable)}; [all] takes every one but lm_head."
        )


def _additional_targets(job: CheckedJob) -> Iterator[str]:
    targets = job.names("additional_target") if job.has_adapter else []
    there = leaves(job.model.modules) | {"lm_head"}
    unmatched = [target for target in targets if target not in there]
    if unmatched:
        raise invalid_config(
            f"spec.tuning.lora.additionalTargets: {', '.join(unmatched)} is no module of {job.run.model.name}. "
            f"There are {_listed(job.model.modules)}."
        )
    if job.is_on("resize_vocab") and targets and not set(targets) >= _EMBEDDINGS:
        raise invalid_config(
            "spec.model.addTokens with spec.tuning.lora.additionalTargets: the rows of new tokens are trained only if "
            "these contain embed_tokens and lm_head."
        )
    tied = _EMBEDDINGS & set(targets)
    if tied and job.model.tied:
        yield (
            f"additional target {' and '.join(sorted(tied))}: input embeddings and output layer are one tensor in this "
            "model, and training makes two of them; after a merge they may differ from what was trained"
        )


def _freeze(job: CheckedJob) -> Iterator[str]:
    if job.run.tuning.method != "freeze":
        return
    count = abs(int(job.arguments.get("freeze_trainable_layers", 2)))
    if job.model.layers and count > job.model.layers:
        raise invalid_config(
            f"spec.tuning.freeze.trainableLayers is {count}, but {job.run.model.name} has {job.model.layers} layers: "
            "set at most that many, or spec.tuning.method to full."
        )
    inside, outside = _names_inside_layers(job.model.tensors), _names_outside(job)
    for field, argument, default, there in (
        ("trainableModules", "freeze_trainable_modules", "all", inside | {"all"}),
        ("extraModules", "freeze_extra_modules", "", outside),
    ):
        unmatched = [name for name in job.names(argument, default) if name not in there]
        if unmatched:
            raise invalid_config(
                f"spec.tuning.freeze.{field}: {', '.join(unmatched)} is no such module of {job.run.model.name}. "
                f"There are {', '.join(sorted(there))}."
            )
    yield from ()


def _reachable(job: CheckedJob) -> frozenset[str]:
    """Linear modules that an adapter may be put on, with the frozen parts of a vision-language model left out."""
    if not job.model.reads_images:
        return job.model.linear_modules
    frozen_tower = job.arguments.get("freeze_vision_tower", True)
    frozen_projector = job.arguments.get("freeze_multi_modal_projector", True)
    frozen_language = job.arguments.get("freeze_language_model", False)

    def is_frozen(name: str) -> bool:
        if not job.model.is_vision(name):
            return bool(frozen_language)
        return bool(frozen_projector if _PROJECTOR in name else frozen_tower) or _PATCHES in name

    return frozenset(name for name in job.model.linear_modules if not is_frozen(name))


def _matches(job: CheckedJob, name: str, target: str) -> bool:
    """LLaMA-Factory looks for the target anywhere in the name when the model is a vision-language model."""
    if job.model.reads_images:
        return target in name
    return name == target or name.endswith(f".{target}")


def _names_inside_layers(tensors: Iterable[str]) -> set[str]:
    """What LLaMA-Factory calls hidden modules: self_attn, mlp, input_layernorm and the like."""
    names = set()
    for name in tensors:
        # Layer 1 is looked at because layers need not be alike: Qwen3-Next and Qwen3.5 have two kinds of attention.
        layer = next((layer for layer in (".0.", ".1.") if layer in name), None)
        if layer is not None and ".experts." not in name:
            names.add(name.split(layer)[-1].split(".")[0])
    return names


def _names_outside(job: CheckedJob) -> set[str]:
    """Modules outside of layers: embed_tokens, norm, and lm_head where it has weights of its own."""
    names = {name.split(".")[-2] for name in job.model.tensors if not re.search(r"\.\d+\.", name) and "." in name}
    return names - {"lm_head"} if job.model.tied else names


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(leaves(names)))


RULES: tuple[Rule, ...] = (_lora_targets, _additional_targets, _freeze)
