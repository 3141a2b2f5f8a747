"""Whether the model on the volume can be trained the way the job says, before an accelerator is asked for.

A chain of small rules, each of which raises PermanentError with the change to make, or yields warnings. Admission (CEL)
knows the model by its name only; here its files are read. What needs torch is left to LLaMA-Factory.
ADR 0056 says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import invalid_config, invalid_model
from qwensft_trainer.model import families
from qwensft_trainer.model.architecture import Architecture, describe
from qwensft_trainer.model.checks import adapter as adapter_checks
from qwensft_trainer.model.checks import deepspeed as deepspeed_config
from qwensft_trainer.model.checks import modules as module_checks
from qwensft_trainer.model.checks import quantization as quantization_checks
from qwensft_trainer.model.checks.checked_job import OTHER_IMAGE, CheckedJob, Rule, has_package

__all__ = ["check", "check_packages", "describe", "require_mergeable"]

# For these LLaMA-Factory 0.9.5 has Liger kernels; for others it says in the log that it goes without.
_LIGER = frozenset({"qwen2", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "qwen3_next", "qwen3_5"})

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")

# The arguments of spec.tuning.vision and their defaults.
_FROZEN = {"freeze_vision_tower": True, "freeze_multi_modal_projector": True, "freeze_language_model": False}


def check(run: Run, arguments: Mapping[str, Any]) -> list[str]:
    """Judge the run against its model, which must be complete. Returns warnings.

    `arguments` are those of train.yaml. Raises PermanentError: InvalidModel when another model is needed, else
    InvalidConfig.
    """
    check_packages(arguments)
    template = families.resolve_template(run)
    deepspeed_config.check(run, arguments)
    job = CheckedJob(run, arguments, template, Architecture.read(run.model.path), deepspeed_config.stage(run))
    return [warning for rule in _RULES for warning in rule(job)]


def check_packages(arguments: Mapping[str, Any]) -> None:
    """What LLaMA-Factory only warns of, and then trains slowly. Raises PermanentError InvalidConfig."""
    if arguments.get("flash_attn") == "fa2" and not has_package("flash_attn"):
        raise invalid_config(
            "spec.model.attention is fa2, but this trainer image holds no flash-attn package. Set spec.model.attention "
            "to auto or sdpa, or spec.worker.image to an image built with --target trainer-flash-attn."
        )
    if arguments.get("enable_liger_kernel") and not has_package("liger_kernel"):
        raise invalid_config(
            "spec.training.ligerKernel is true, but this trainer image holds no liger-kernel package: set it to false, "
            f"{OTHER_IMAGE}."
        )


def require_mergeable(run: Run) -> None:
    """Raises PermanentError InvalidModel when an adapter cannot be merged because the base is quantised."""
    method = Architecture.read(run.model.path).quantization
    if run.tuning.method == "lora" and method is not None:
        raise quantization_checks.not_mergeable(run, method)


def _thinking(job: CheckedJob) -> Iterator[str]:
    if job.arguments.get("enable_thinking") is not None and job.template not in families.REASONING:
        raise invalid_config(
            f"spec.model.enableThinking is set, but the model's template, {job.template}, knows no thinking: remove "
            f"it. Templates that do are {', '.join(sorted(families.REASONING))}."
        )
    if job.arguments.get("enable_thinking") is False and families.always_thinks(job.run.model.path):
        raise invalid_config(
            f"spec.model.enableThinking is false, but {job.run.model.name} always thinks by its chat template, and "
            "cannot be asked otherwise: remove it, or use an Instruct or a hybrid model."
        )
    yield from families.doubts(job.template, job.run.model.path)


def _vision(job: CheckedJob) -> Iterator[str]:
    frozen = {name: job.arguments.get(name, default) for name, default in _FROZEN.items()}
    if job.template not in families.VISION:
        if frozen != _FROZEN:
            raise invalid_config(
                f"spec.tuning.vision is for vision-language models, and {job.run.model.name} (template {job.template}) "
                "reads text only: remove it."
            )
        return
    directory = job.run.model.path
    if not any((directory / name).is_file() for name in _PROCESSORS):
        raise invalid_model(
            f"{directory} lacks {' or '.join(_PROCESSORS)}, the image processor of a vision-language model: copy it "
            "from the original model."
        )
    if all(frozen.values()):
        raise invalid_config(
            "spec.tuning.vision freezes tower, projector and language model: nothing is left to train. Set one of "
            "freezeTower, freezeProjector and freezeLanguageModel to false."
        )
    yield from ()


def _length(job: CheckedJob) -> Iterator[str]:
    """Only a warning: samples may all be shorter, and going beyond is possible, if seldom wanted."""
    cutoff, positions = int(job.arguments.get("cutoff_len", 2048)), job.model.positions
    if positions and cutoff > positions:
        yield (
            f"cutoffLen {cutoff} is beyond the {positions} positions this model was made for. Set it to at most "
            f"{positions}, or take a model with rope_scaling (YaRN) in its config.json"
        )


def _attention(job: CheckedJob) -> Iterator[str]:
    if (
        job.arguments.get("flash_attn") == "fa2"
        and job.model.model_type in {"qwen3_5", "qwen3_5_moe"}
        and not has_package("fla")
    ):
        raise invalid_config(
            f"spec.model.attention is fa2: {job.run.model.name} then needs the package flash-linear-attention, too, "
            f"which is absent here. Set spec.model.attention to sdpa, {OTHER_IMAGE}."
        )
    yield from ()


def _linear_attention(job: CheckedJob) -> Iterator[str]:
    if job.model.model_type not in families.LINEAR_ATTENTION:
        return
    if job.is_on("neat_packing"):
        raise invalid_config(
            f"spec.training.neatPacking cannot keep packed rows apart in {job.run.model.name}, whose linear attention "
            "(gated delta net) goes on from one row into the next: remove it."
        )
    if job.run.accelerator.count > 0 and not has_package("fla"):
        yield (
            "this model has layers of linear attention, which are slow and take more memory without the package "
            f"flash-linear-attention: take an image that holds it ({OTHER_IMAGE.removeprefix('or ')})"
        )


def _chat_tokens(job: CheckedJob) -> Iterator[str]:
    """Qwen2.5's base models never saw the tokens that end and begin turns; the frozen embeddings stay as they are."""
    learns = {"embed_tokens", "lm_head"} & set(job.names("additional_target"))
    if job.model.model_type == "qwen2" and job.has_adapter and not learns and families.is_base(job.run.model.path):
        yield (
            "this is a base model whose <|im_start|> and <|im_end|> were hardly trained, and an adapter leaves their "
            "embeddings as they are: it may not learn to end its answers. Use the Instruct model, or add embed_tokens "
            "and lm_head to spec.tuning.lora.additionalTargets"
        )


def _liger(job: CheckedJob) -> Iterator[str]:
    if not job.is_on("enable_liger_kernel"):
        return
    if job.run.accelerator.count == 0:
        raise invalid_config(
            "spec.training.ligerKernel needs accelerators: its kernels do not run on CPUs. Set it to false."
        )
    if job.model.model_type not in _LIGER:
        yield f"ligerKernel does nothing for models of type {job.model.model_type}: there are no such kernels for them"


def _cpu(job: CheckedJob) -> Iterator[str]:
    if job.zero is not None and job.run.accelerator.count == 0 and (job.is_on("bf16") or job.is_on("fp16")):
        raise invalid_config(
            "DeepSpeed without accelerators computes in fp32 only: set spec.training.precision to fp32, or remove "
            "spec.distribution.deepspeed."
        )
    yield from ()


def _deepspeed(job: CheckedJob) -> Iterator[str]:
    if job.zero is None:
        return
    for argument in ("use_galore", "use_apollo"):
        if job.is_on(argument):
            raise invalid_config(
                f"spec.extraArguments.{argument} does not work with DeepSpeed: remove it, or "
                "spec.distribution.deepspeed."
            )
    if job.is_on("pure_bf16"):
        raise invalid_config(
            "spec.training.precision: pure_bf16 is for training without DeepSpeed, which keeps weights in fp32 beside "
            "those in bf16: set it to bf16, or remove spec.distribution.deepspeed."
        )
    if job.zero < 3:
        return
    for argument, field in (
        ("pissa_init", "spec.tuning.lora.pissa"),
        ("use_unsloth", "spec.extraArguments.use_unsloth"),
    ):
        if job.is_on(argument):
            raise invalid_config(
                f"{field} does not work with ZeRO-3: remove it, or use a lower stage of ZeRO "
                "(spec.distribution.deepspeed)."
            )
    if job.model.experts:
        yield (
            "ZeRO-3 on a mixture of experts is slow, and waits for ever when a process meets other experts than the "
            "others do: ZeRO-2 is the safer choice where the model fits"
        )


_RULES: tuple[Rule, ...] = (
    _thinking,  # first what is wrong with the choice of the model or its template
    _vision,
    *quantization_checks.RULES,
    _cpu,
    _deepspeed,
    _attention,
    _linear_attention,
    _chat_tokens,
    _liger,
    *module_checks.RULES,  # then the finer points
    *adapter_checks.RULES,  # which compares modules that there are
    _length,
)
