"""`spec.tuning`: which weights are trained, and in which form the frozen ones are held.

Optimiser and schedule stand in `training`.
ADR 0025 says why.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from .base import ApiModel, Rule, argument

Method = Literal["full", "freeze", "lora", "qlora", "dora"]
ADAPTER_METHODS = ("lora", "qlora", "dora")
_NAME = r"^[A-Za-z0-9_.]+$"
ModuleName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Rule(
        cel=f"self.matches(r'{_NAME}')",
        message="a name of a module is letters, digits, _ and ., such as q_proj: write each as an entry of its own; "
        "the single name all stands for every linear layer (all-linear elsewhere)",
        check=lambda name: re.fullmatch(_NAME, name) is not None,
    ),
]


def _all_stands_alone(attribute: str, meaning: str) -> Rule:
    name = to_camel(attribute)
    return Rule(
        cel=f"!has(self.{name}) || !('all' in self.{name}) || self.{name}.size() == 1",
        message=f"{name}: 'all' stands for {meaning} and must stand alone: remove the other names, or 'all'",
        check=lambda block: "all" not in getattr(block, attribute) or len(getattr(block, attribute)) == 1,
        field=f".{name}",
    )


class Lora(ApiModel):
    """Low-rank adapters."""

    rules = (_all_stands_alone("targets", "every linear layer"),)

    rank: int = Field(
        8, ge=1, le=4096, description="Rank of the update matrices.", json_schema_extra=argument("lora_rank")
    )
    alpha: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Scale of the update; it is multiplied by alpha / rank. Default: 2 * rank.",
        json_schema_extra=argument("lora_alpha"),
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout probability on the adapters' input.",
        json_schema_extra=argument("lora_dropout"),
    )
    targets: list[ModuleName] = Field(
        ["q_proj", "v_proj"],
        min_length=1,
        max_length=64,
        description="Layers that get an adapter, by module name: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
        "down_proj; or the single name all.",
        json_schema_extra=argument("lora_target"),
    )
    additional_targets: list[ModuleName] = Field(
        [],
        max_length=16,
        description="Modules that are trained whole and saved with the adapter, such as embed_tokens and lm_head. "
        "Each matches by the end of a module's name: norm is every norm.",
        json_schema_extra=argument("additional_target"),
    )
    rslora: bool = Field(
        False,
        description="Rank-stabilised LoRA: scale by alpha / sqrt(rank) in place of alpha / rank.",
        json_schema_extra=argument("use_rslora"),
    )
    pissa: bool = Field(
        False,
        description="PiSSA: start the adapters from the principal singular values of the weights, in place of zero. "
        "Not on a quantised base.",
        json_schema_extra=argument("pissa_init"),
    )
    lora_plus_ratio: float | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="LoRA+: learning rate of the B matrices as a multiple of that of the A matrices; 16 is usual. "
        "Default: both learn alike.",
        json_schema_extra=argument("loraplus_lr_ratio"),
    )

    @property
    def effective_alpha(self) -> int:
        """The alpha given, else twice the rank."""
        return self.alpha if self.alpha is not None else 2 * self.rank


class Freeze(ApiModel):
    """Partial tuning: some layers are trained whole, the others are frozen."""

    rules = (
        _all_stands_alone("trainable_modules", "every part of a layer"),
        Rule(
            cel="self.?trainableLayers.orDefault() != 0",
            message="no layer is trained: set trainableLayers to the number of last layers to train, or to a negative "
            "number for the first ones",
            check=lambda freeze: freeze.trainable_layers != 0,
            field=".trainableLayers",
        ),
    )

    trainable_layers: int = Field(
        2,
        ge=-1024,
        le=1024,
        description="Number of layers that are trained: the last ones, or with a negative number the first ones.",
        json_schema_extra=argument("freeze_trainable_layers"),
    )
    trainable_modules: list[ModuleName] = Field(
        ["all"],
        min_length=1,
        max_length=64,
        description="Parts of these layers that are trained, such as mlp and self_attn; or the single name all.",
        json_schema_extra=argument("freeze_trainable_modules"),
    )
    extra_modules: list[ModuleName] = Field(
        [],
        max_length=16,
        description="Modules outside the layers that are trained too, such as embed_tokens and lm_head. Each is every "
        "tensor whose name contains it: norm is also the norms of all layers.",
        json_schema_extra=argument("freeze_extra_modules"),
    )


class Quantization(ApiModel):
    """Number format in which the frozen base is held while adapters are trained on it."""

    rules = (
        Rule(
            cel="self.?method.orDefault() != 'eetq' || self.?bits.orDefault() == 8",
            message="eetq quantises to 8 bits only: set quantization.bits: 8",
            check=lambda quantization: quantization.method != "eetq" or quantization.bits == 8,
            field=".bits",
        ),
        Rule(
            cel="self.?type.orDefault() == 'nf4' || (self.?method.orDefault() == 'bnb' && self.?bits.orDefault() == 4)",
            message="fp4 is a format of 4-bit bitsandbytes: remove quantization.type, or set method: bnb and bits: 4",
            check=lambda quantization: (
                quantization.type == "nf4" or (quantization.method == "bnb" and quantization.bits == 4)
            ),
            field=".type",
        ),
    )

    bits: Literal[4, 8] = Field(
        4, description="Bits per weight: 4 or 8.", json_schema_extra=argument("quantization_bit")
    )
    method: Literal["bnb", "hqq", "eetq"] = Field(
        "bnb",
        description="Library that quantises: bnb (bitsandbytes), hqq, or eetq (8 bits only). The trainer image brings "
        "bitsandbytes; hqq and eetq need an image of your own.",
        json_schema_extra=argument("quantization_method"),
    )
    type: Literal["nf4", "fp4"] = Field(
        "nf4",
        description="4-bit number format of bitsandbytes.",
        json_schema_extra=argument("quantization_type"),
    )
    double_quantization: bool = Field(
        True,
        description="Quantise the quantisation constants too; 4-bit bitsandbytes only.",
        json_schema_extra=argument("double_quantization"),
    )


class Vision(ApiModel):
    """Which parts of a vision model are trained."""

    rules = (
        Rule(
            cel="!self.?freezeTower.orDefault() || !self.?freezeProjector.orDefault()"
            " || !self.?freezeLanguageModel.orDefault()",
            message="tower, projector and language model are all frozen, so nothing is trained: set freezeTower, "
            "freezeProjector or freezeLanguageModel to false",
            check=lambda vision: not (vision.freeze_tower and vision.freeze_projector and vision.freeze_language_model),
        ),
    )

    freeze_tower: bool = Field(
        True, description="Leave the vision tower as it is.", json_schema_extra=argument("freeze_vision_tower")
    )
    freeze_projector: bool = Field(
        True,
        description="Leave the projector between vision tower and language model as it is.",
        json_schema_extra=argument("freeze_multi_modal_projector"),
    )
    freeze_language_model: bool = Field(
        False,
        description="Leave the language model as it is.",
        json_schema_extra=argument("freeze_language_model"),
    )


class Tuning(ApiModel):
    """Which weights are trained."""

    rules = (
        Rule(
            cel="!has(self.lora) || !has(self.method) || self.method in ['lora', 'qlora', 'dora']",
            message="the methods full and freeze train weights of the model itself and take no lora block: remove "
            "tuning.lora, or set method: lora, qlora or dora",
            check=lambda tuning: tuning.lora is None or tuning.uses_adapter,
            field=".lora",
        ),
        Rule(
            cel="!has(self.freeze) || self.?method.orDefault() == 'freeze'",
            message="the freeze block is for method freeze: remove tuning.freeze, or set method: freeze",
            check=lambda tuning: tuning.freeze is None or tuning.method == "freeze",
            field=".freeze",
        ),
        Rule(
            cel="!has(self.quantization) || self.?method.orDefault() != 'lora'",
            message="method lora trains on the base as it is: set method: qlora, or dora for DoRA on a quantised base, "
            "or remove tuning.quantization",
            check=lambda tuning: tuning.quantization is None or tuning.method != "lora",
            field=".quantization",
        ),
        Rule(
            cel="!has(self.quantization) || !(self.?method.orDefault() in ['full', 'freeze'])",
            message="the methods full and freeze cannot train quantised weights: remove tuning.quantization, or set "
            "method: qlora",
            check=lambda tuning: tuning.quantization is None or tuning.method not in ("full", "freeze"),
            field=".quantization",
        ),
        Rule(
            cel="self.?method.orDefault() != 'dora' || self.?quantization.?method.orDefault() == 'bnb'",
            message="DoRA works on a base that bitsandbytes quantised, and on no other: set quantization.method: bnb, "
            "or method: qlora",
            check=lambda tuning: (
                tuning.method != "dora" or tuning.quantization is None or tuning.quantization.method == "bnb"
            ),
            field=".quantization.method",
        ),
        Rule(
            cel="!self.?lora.?pissa.orDefault() || (!has(self.quantization) && self.?method.orDefault() != 'qlora')",
            message="PiSSA starts from the singular values of the unquantised weights: remove lora.pissa, or set "
            "method: lora without quantization",
            check=lambda tuning: tuning.lora is None or not tuning.lora.pissa or tuning.effective_quantization is None,
            field=".lora.pissa",
        ),
    )

    method: Method = Field(
        "lora",
        description="lora (small adapters beside frozen weights), qlora (adapters on a quantised base), dora (adapters "
        "that learn magnitude and direction apart), freeze (some layers whole) or full (every weight; needs about 8 "
        "times the memory).",
        json_schema_extra=argument("finetuning_type", "use_dora"),
    )
    lora: Lora | None = Field(
        None,
        description="Settings of the adapters; only with the methods lora, qlora and dora. Default: each field's "
        "default.",
    )
    freeze: Freeze | None = Field(
        None, description="Layers that are trained; only with method freeze. Default: each field's default."
    )
    quantization: Quantization | None = Field(
        None,
        description="Number format of the base; only with method qlora, and with dora for DoRA on a quantised base. "
        "Default: each field's default with qlora, not quantised with dora.",
    )
    vision: Vision | None = Field(
        None, description="Parts of a vision model that are trained. Default: each field's default."
    )

    @property
    def uses_adapter(self) -> bool:
        """Whether the result is an adapter (lora, qlora, dora) and not a model (full, freeze)."""
        return self.method in ADAPTER_METHODS

    @property
    def finetuning_type(self) -> Literal["full", "freeze", "lora"]:
        """LLaMA-Factory's name of the method: QLoRA and DoRA are lora with further switches."""
        return "lora" if self.uses_adapter else "full" if self.method == "full" else "freeze"

    @property
    def effective_lora(self) -> Lora | None:
        """The adapters' settings, all defaults filled in; None with full and freeze."""
        return (self.lora or Lora()) if self.uses_adapter else None

    @property
    def effective_freeze(self) -> Freeze | None:
        """The trained layers, all defaults filled in; None with any other method than freeze."""
        return (self.freeze or Freeze()) if self.method == "freeze" else None

    @property
    def effective_quantization(self) -> Quantization | None:
        """How the base is quantised, all defaults filled in; None where it is not."""
        return self.quantization or (Quantization() if self.method == "qlora" else None)
