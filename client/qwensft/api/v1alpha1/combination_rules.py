"""Rules between the blocks of a spec: what cannot be trained together, and what to change.

Rules within one block stand beside the block. Of the base model only the name is known here; what its files say is
checked by the prepare stage.
ADR 0026 says why.
"""

from __future__ import annotations

from typing import Final

from . import continuing
from .base import Rule
from .families import (
    FAMILIES,
    LINEAR_ATTENTION,
    MIXTURE_OF_EXPERTS,
    PRE_QUANTISED,
    VISION,
    family_pattern,
    has_linear_attention,
    is_mixture_of_experts,
    is_pre_quantised,
)
from .spec import SpecFields
from .trackers import ENVIRONMENT_OF

_NODES = "self.?distribution.?nodes.orDefault()"
_COUNT = "self.?worker.?accelerator.?count.orDefault()"
_PRECISION = "self.?training.?precision.orDefault()"
_CLAIM = "self.storage.volume.claimTemplate"
_METHOD = "self.?tuning.?method.orDefault()"
_ADAPTER = f"{_METHOD} in ['lora', 'qlora', 'dora']"
_QUANTISED = f"(self.?tuning.?quantization.hasValue() || {_METHOD} == 'qlora')"
_LIBRARY = "self.?tuning.?quantization.?method.orDefault()"
_BITS = "self.?tuning.?quantization.?bits.orDefault()"
_DEEPSPEED = "self.?distribution.?deepspeed.hasValue()"
# Fields without a default of their own are compared with a value that keeps the rule: `.orValue`.
_ZERO3 = "self.?distribution.?deepspeed.?stage.orValue(0) == 3"
_NEW_TOKENS = (
    "((has(self.model.addTokens) && self.model.addTokens.size() > 0)"
    " || (has(self.model.addSpecialTokens) && self.model.addSpecialTokens.size() > 0))"
)
_TEXT_FAMILY = family_pattern(family for family in FAMILIES if not family.vision)
_TEXT_MODEL = (
    f"(has(self.model.template) ? !(self.model.template in {list(VISION)}) : "
    f"self.model.name.matches(r'{_TEXT_FAMILY}'))"
)
# Lists are reached by has(): the apiserver's cost estimate knows no size behind `.?`, and refuses loops over it.
_HAS_EVALUATION_SETS = "(has(self.evaluation) && has(self.evaluation.datasets))"
_EVALUATES = "(has(self.evaluation) && (has(self.evaluation.fraction) || has(self.evaluation.datasets)))"
_COMPARES = "(has(self.evaluation) && (self.evaluation.?keepBest.orDefault() || has(self.evaluation.earlyStopping)))"
_HAS_MEDIA = "has(dataset.columns) && (has(dataset.columns.images) || has(dataset.columns.videos))"


def _extra(*keys: str) -> str:
    return "(" + " || ".join(f"'{key}' in self.?extraArguments.orDefault()" for key in keys) + ")"


def _has_extra(spec: SpecFields, *keys: str) -> bool:
    return any(key in spec.extra_arguments for key in keys)


def _zero3(spec: SpecFields) -> bool:
    return spec.distribution.deepspeed is not None and spec.distribution.deepspeed.stage == 3


def _enough_accelerators(spec: SpecFields) -> bool:
    asked, count = spec.distribution.processes_per_node, spec.worker.accelerator.count
    return asked is None or count == 0 or asked <= count


def _evaluates(spec: SpecFields) -> bool:
    return spec.evaluation is not None and spec.evaluation.has_rows


def _compares(spec: SpecFields) -> bool:
    return spec.evaluation is not None and spec.evaluation.compares


def _volume_is_shared(spec: SpecFields) -> bool:
    template = spec.storage.volume.claim_template
    modes = template.access_modes if template else None
    return spec.distribution.nodes == 1 or modes is None or "ReadWriteMany" in modes


def _fast_attention_fits(spec: SpecFields) -> bool:
    return spec.model.attention != "fa2" or (spec.worker.accelerator.count > 0 and spec.training.precision != "fp32")


def _fast_attention_can_pack(spec: SpecFields) -> bool:
    sizes = {spec.training.per_device_train_batch_size, (spec.evaluation and spec.evaluation.batch_size) or 1}
    return spec.model.attention != "fa2" or not spec.training.neat_packing or sizes == {1}


def _fields_of(tracker: str) -> Rule:
    names = ENVIRONMENT_OF[tracker]
    return Rule(
        cel=f"!has(self.training) || !has(self.training.reportTo) || !has(self.training.reportTo.{tracker})"
        " || !has(self.worker) || !has(self.worker.env)"
        f" || !self.worker.env.exists(variable, variable.name in {list(names)})",
        message=f"training.reportTo.{tracker} has fields for what these say: remove from worker.env {', '.join(names)}",
        check=lambda spec: (
            spec.training.report_to is None
            or getattr(spec.training.report_to, tracker) is None
            or not any(variable.name in names for variable in spec.worker.env or ())
        ),
        field=".worker.env",
    )


def _keeps_files_apart(tracker: str) -> Rule:
    return Rule(
        cel=f"!has(self.training) || !has(self.training.reportTo) || !has(self.training.reportTo.{tracker})"
        f" || !has(self.merge) || !has(self.merge.path) || self.merge.path.split('/')[0] != '{tracker}'",
        message=f"training.reportTo.{tracker} keeps its files in {tracker} in the run's directory: choose another "
        "merge.path, for example merged",
        check=lambda spec: (
            spec.training.report_to is None
            or getattr(spec.training.report_to, tracker) is None
            or spec.merge.path is None
            or spec.merge.path.split("/")[0] != tracker
        ),
        field=".merge.path",
    )


_HARDWARE = (
    Rule(
        cel=f"{_COUNT} == 0 || self.?distribution.?processesPerNode.orValue(1) <= {_COUNT}",
        message="processesPerNode is greater than worker.accelerator.count: raise the count or lower "
        "processesPerNode, as each process needs an accelerator of its own",
        check=_enough_accelerators,
        field=".distribution.processesPerNode",
    ),
    Rule(
        cel=f"{_NODES} == 1 || !has({_CLAIM}) || !has({_CLAIM}.accessModes) || 'ReadWriteMany' in {_CLAIM}.accessModes",
        message="several nodes write to one volume: add ReadWriteMany to "
        "storage.volume.claimTemplate.accessModes (with a storageClassName that offers it), or set "
        "distribution.nodes: 1",
        check=_volume_is_shared,
        field=".storage.volume.claimTemplate.accessModes",
    ),
    Rule(
        cel=f"{_COUNT} > 0 || !({_PRECISION} in ['fp16', 'pure_bf16'])",
        message="fp16 and pure_bf16 need accelerators: use precision bf16 or fp32, or set worker.accelerator.count",
        check=lambda spec: spec.worker.accelerator.count > 0 or spec.training.precision not in ("fp16", "pure_bf16"),
        field=".training.precision",
    ),
    Rule(
        cel=f"self.model.?attention.orDefault() != 'fa2' || ({_COUNT} > 0 && {_PRECISION} != 'fp32')",
        message="FlashAttention-2 needs accelerators and bf16 or fp16: use attention auto or sdpa",
        check=_fast_attention_fits,
        field=".model.attention",
    ),
    Rule(
        # Without evaluation.batchSize, evaluation takes the size of training.
        cel="self.model.?attention.orDefault() != 'fa2' || !self.?training.?neatPacking.orDefault()"
        " || (self.?training.?perDeviceTrainBatchSize.orDefault() == 1 && self.?evaluation.?batchSize.orValue(1) == 1)",
        message="with FlashAttention-2, neatPacking takes one packed sequence at a time: set "
        "perDeviceTrainBatchSize: 1 (and evaluation.batchSize: 1, if set) with more gradientAccumulationSteps, or "
        "model.attention: sdpa",
        check=_fast_attention_can_pack,
        field=".training.perDeviceTrainBatchSize",
    ),
    Rule(
        cel=f"!self.?training.?ligerKernel.orDefault() || {_COUNT} > 0",
        message="Liger's kernels need accelerators: remove training.ligerKernel, or set worker.accelerator.count",
        check=lambda spec: not spec.training.liger_kernel or spec.worker.accelerator.count > 0,
        field=".training.ligerKernel",
    ),
    Rule(
        cel=f"!{_DEEPSPEED} || {_COUNT} > 0 || {_PRECISION} == 'fp32'",
        message="DeepSpeed on CPUs computes in fp32 only: set training.precision: fp32, or remove "
        "distribution.deepspeed",
        check=lambda spec: (
            spec.distribution.deepspeed is None
            or spec.worker.accelerator.count > 0
            or spec.training.precision == "fp32"
        ),
        field=".training.precision",
    ),
    Rule(
        cel=f"!{_DEEPSPEED} || {_PRECISION} != 'pure_bf16'",
        message="pure_bf16 is for training without DeepSpeed, which keeps weights of its own in fp32: use precision "
        "bf16, or remove distribution.deepspeed",
        check=lambda spec: spec.distribution.deepspeed is None or spec.training.precision != "pure_bf16",
        field=".training.precision",
    ),
)

_BASE = (
    Rule(
        cel=f"!({_ZERO3}) || !self.model.name.matches(r'{PRE_QUANTISED}')",
        message="ZeRO-3 cannot shard a GPTQ or AWQ model: use the bf16 model, or distribution.deepspeed.stage: 2",
        check=lambda spec: not _zero3(spec) or not is_pre_quantised(spec.model.name),
        field=".distribution.deepspeed.stage",
    ),
    Rule(
        cel=f"!({_ZERO3}) || !{_QUANTISED} || ({_LIBRARY} == 'bnb' && {_BITS} == 4)",
        message="ZeRO-3 can shard a base that bitsandbytes quantised to 4 bits, and no other: set "
        "tuning.quantization {method: bnb, bits: 4}, or distribution.deepspeed.stage: 2",
        check=lambda spec: (
            not _zero3(spec)
            or (chosen := spec.tuning.effective_quantization) is None
            or (chosen.method == "bnb" and chosen.bits == 4)
        ),
        field=".distribution.deepspeed.stage",
    ),
    Rule(
        cel=f"!({_ZERO3}) || !self.?tuning.?lora.?pissa.orDefault()",
        message="PiSSA needs whole weight matrices, and ZeRO-3 shards them: remove tuning.lora.pissa, or set "
        "distribution.deepspeed.stage: 2",
        check=lambda spec: not _zero3(spec) or spec.tuning.lora is None or not spec.tuning.lora.pissa,
        field=".tuning.lora.pissa",
    ),
    Rule(
        cel=f"!{_QUANTISED} || {_LIBRARY} != 'bnb' || !self.model.name.matches(r'{MIXTURE_OF_EXPERTS}')",
        message="bitsandbytes leaves the experts of a mixture-of-experts model in bf16, so nothing is saved: set "
        "tuning.method: lora and remove tuning.quantization",
        check=lambda spec: (
            (chosen := spec.tuning.effective_quantization) is None
            or chosen.method != "bnb"
            or not is_mixture_of_experts(spec.model.name)
        ),
        field=".tuning.quantization",
    ),
    Rule(
        cel=f"!self.?training.?neatPacking.orDefault() || !self.model.name.matches(r'{LINEAR_ATTENTION}')",
        message="neatPacking cannot keep packed rows apart in a model with linear attention (Qwen3-Next, "
        "Qwen3-Coder-Next, Qwen3.5, Qwen3.6): remove training.neatPacking",
        check=lambda spec: not spec.training.neat_packing or not has_linear_attention(spec.model.name),
        field=".training.neatPacking",
    ),
    Rule(
        cel=f"!{_NEW_TOKENS} || !{_QUANTISED}",
        message="the embeddings of a quantised base cannot grow: remove model.addTokens and addSpecialTokens, or set "
        "tuning.method: lora without quantization",
        check=lambda spec: not spec.model.adds_tokens or spec.tuning.effective_quantization is None,
        field=".model",
    ),
    Rule(
        cel=f"!{_NEW_TOKENS} || {_METHOD} != 'freeze' || (has(self.tuning.freeze)"
        " && has(self.tuning.freeze.extraModules) && 'embed_tokens' in self.tuning.freeze.extraModules)",
        message="new tokens are learnt by the embeddings, which are frozen: add embed_tokens to "
        "tuning.freeze.extraModules (and lm_head, where it is not tied to them)",
        check=lambda spec: (
            not spec.model.adds_tokens
            or (freeze := spec.tuning.effective_freeze) is None
            or "embed_tokens" in freeze.extra_modules
        ),
        field=".tuning.freeze.extraModules",
    ),
    Rule(
        cel=f"!self.?tuning.?vision.hasValue() || !{_TEXT_MODEL}",
        message="the model has no vision tower: remove tuning.vision, or use a vision model (Qwen2-VL, Qwen2.5-VL, "
        "QVQ, Qwen3-VL, Qwen3.5, Qwen3.6)",
        check=lambda spec: spec.tuning.vision is None or not spec.model.is_text_model,
        field=".tuning.vision",
    ),
    Rule(
        cel=f"!(self.datasets.exists(dataset, {_HAS_MEDIA}) || ({_HAS_EVALUATION_SETS}"
        f" && self.evaluation.datasets.exists(dataset, {_HAS_MEDIA}))) || !{_TEXT_MODEL}",
        message="the model sees no images and videos: remove columns.images and columns.videos, or use a vision model "
        "(Qwen2-VL, Qwen2.5-VL, QVQ, Qwen3-VL, Qwen3.5, Qwen3.6)",
        check=lambda spec: not (spec.model.is_text_model and any(dataset.has_media for dataset in spec.all_datasets)),
        field=".datasets",
    ),
)

_DATA = (
    Rule(
        cel=f"!{_COMPARES} || !has(self.evaluation.everySteps)"
        " || self.evaluation.everySteps % self.?training.?saveSteps.orDefault() == 0",
        message="keepBest and earlyStopping need a checkpoint at each evaluation: set evaluation.everySteps to a "
        "multiple of training.saveSteps (1000 by default), or lower saveSteps to a divisor of everySteps",
        check=lambda spec: (
            not _compares(spec)
            or spec.evaluation is None
            or spec.evaluation.every_steps is None
            or spec.evaluation.every_steps % spec.training.save_steps == 0
        ),
        field=".evaluation.everySteps",
    ),
    Rule(
        cel="self.datasets.all(dataset, has(dataset.weight)) || !self.datasets.exists(dataset, has(dataset.weight))",
        message="some datasets have a weight and some have none: give every dataset a weight, or none",
        check=lambda spec: len({dataset.weight is None for dataset in spec.datasets}) == 1,
        field=".datasets",
    ),
    Rule(
        cel="self.?training.?mixStrategy.orValue('') != 'concat'"
        " || !self.datasets.exists(dataset, has(dataset.weight))",
        message="mixStrategy concat takes every row once, whatever its dataset weighs: remove the weights, or set "
        "training.mixStrategy: interleave_under",
        check=lambda spec: (
            spec.training.mix_strategy != "concat" or all(dataset.weight is None for dataset in spec.datasets)
        ),
        field=".training.mixStrategy",
    ),
    Rule(
        cel=f"!{_HAS_EVALUATION_SETS} || self.evaluation.datasets.all(other,"
        " !self.datasets.exists(dataset, dataset.name == other.name))",
        message="a dataset to train on and one to evaluate on have the same name: rename one of them",
        check=lambda spec: (
            not {dataset.name for dataset in spec.datasets} & {dataset.name for dataset in spec.evaluation_sets}
        ),
        field=".evaluation.datasets",
    ),
)

_EXTRA_ARGUMENTS = (
    Rule(
        cel=f"!{_extra('early_stopping_steps')} || ({_EVALUATES} && {_extra('metric_for_best_model')})",
        message="early_stopping_steps compares evaluations: use spec.evaluation.earlyStopping in its place",
        check=lambda spec: (
            not _has_extra(spec, "early_stopping_steps")
            or (_evaluates(spec) and _has_extra(spec, "metric_for_best_model"))
        ),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_COMPARES} || !{_extra('early_stopping_steps', 'metric_for_best_model', 'greater_is_better')}",
        message="keepBest and earlyStopping compare the loss: remove early_stopping_steps, metric_for_best_model and "
        "greater_is_better",
        check=lambda spec: (
            not (
                _compares(spec)
                and _has_extra(spec, "early_stopping_steps", "metric_for_best_model", "greater_is_better")
            )
        ),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('use_galore', 'use_apollo', 'use_badam')} || !({_ADAPTER})",
        message="use_galore, use_apollo and use_badam train the weights themselves: remove them, or set tuning.method: "
        "full or freeze",
        check=lambda spec: not (spec.tuning.uses_adapter and _has_extra(spec, "use_galore", "use_apollo", "use_badam")),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('use_galore', 'use_apollo')} || !{_DEEPSPEED}",
        message="use_galore and use_apollo do not work with DeepSpeed: remove them, or remove distribution.deepspeed",
        check=lambda spec: spec.distribution.deepspeed is None or not _has_extra(spec, "use_galore", "use_apollo"),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('use_badam')} || {_ADAPTER} || {_ZERO3} || self.?distribution.?deepspeed.?config.hasValue()",
        message="use_badam works under ZeRO-3 only: set distribution.deepspeed.stage: 3, or remove it",
        check=lambda spec: (
            not _has_extra(spec, "use_badam")
            or spec.tuning.uses_adapter
            or _zero3(spec)
            or (spec.distribution.deepspeed is not None and spec.distribution.deepspeed.config is not None)
        ),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('use_unsloth')} || !({_ZERO3})",
        message="use_unsloth does not work with ZeRO-3: remove it, or set distribution.deepspeed.stage: 2",
        check=lambda spec: not (_zero3(spec) and _has_extra(spec, "use_unsloth")),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('fp8')} || !{_QUANTISED}",
        message="fp8 does not work on a quantised base: remove it, or set tuning.method: lora without quantization",
        check=lambda spec: not (spec.tuning.effective_quantization is not None and _has_extra(spec, "fp8")),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_extra('use_llama_pro')} || {_METHOD} != 'full'",
        message="use_llama_pro trains the layers that were added to a model: remove it, or set tuning.method: freeze, "
        "lora, qlora or dora",
        check=lambda spec: not (spec.tuning.method == "full" and _has_extra(spec, "use_llama_pro")),
        field=".extraArguments",
    ),
    Rule(
        cel=f"!{_COMPARES} || !{_extra('eval_on_each_dataset', 'eval_on_start', 'eval_delay')}",
        message="keepBest and earlyStopping compare one loss at each evaluation: remove eval_on_each_dataset, "
        "eval_on_start and eval_delay, or them",
        check=lambda spec: (
            not (_compares(spec) and _has_extra(spec, "eval_on_each_dataset", "eval_on_start", "eval_delay"))
        ),
        field=".extraArguments",
    ),
)

_TRACKERS = (
    *(_fields_of(tracker) for tracker in ENVIRONMENT_OF),
    *(_keeps_files_apart(tracker) for tracker in ("tensorboard", "wandb")),
    Rule(
        cel=f"!has(self.training) || !has(self.training.reportTo) || !{_extra('run_name', 'project')}",
        message="trackers are told by training.reportTo: use its runName, and mlflow.experiment or wandb.project, in "
        "place of run_name and project",
        check=lambda spec: spec.training.report_to is None or not _has_extra(spec, "run_name", "project"),
        field=".extraArguments",
    ),
)

COMBINATIONS: Final = (*_HARDWARE, *_BASE, *continuing.RULES, *_DATA, *_EXTRA_ARGUMENTS, *_TRACKERS)
