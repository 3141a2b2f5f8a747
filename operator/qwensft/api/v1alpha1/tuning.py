"""`spec.tuning`: which weights are trained. Optimiser and schedule stand in `training`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule, argument

Method = Literal["full", "lora"]
ModuleName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.]+$")]


class Lora(ApiModel):
    """Low-rank adapters."""

    rules = (
        Rule(
            cel="!has(self.targets) || !('all' in self.targets) || self.targets.size() == 1",
            message="targets: 'all' stands for every linear layer and must stand alone: remove the other names, or "
            "'all'",
            check=lambda lora: "all" not in lora.targets or len(lora.targets) == 1,
            field=".targets",
        ),
    )

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
        description="Modules that are trained whole and saved with the adapter, such as embed_tokens and lm_head.",
        json_schema_extra=argument("additional_target"),
    )
    rslora: bool = Field(
        False,
        description="Rank-stabilised LoRA: scale by alpha / sqrt(rank) in place of alpha / rank.",
        json_schema_extra=argument("use_rslora"),
    )

    @property
    def effective_alpha(self) -> int:
        """The alpha given, else twice the rank."""
        return self.alpha if self.alpha is not None else 2 * self.rank


class Tuning(ApiModel):
    """Which weights are trained."""

    rules = (
        Rule(
            cel="!has(self.lora) || !has(self.method) || self.method == 'lora'",
            message="method full trains every weight and takes no lora block: remove tuning.lora, or set method: lora",
            check=lambda tuning: tuning.lora is None or tuning.method == "lora",
            field=".lora",
        ),
    )

    method: Method = Field(
        "lora",
        description="lora (small adapters beside frozen weights) or full (every weight; needs about 8 times the "
        "memory).",
        json_schema_extra=argument("finetuning_type"),
    )
    lora: Lora | None = Field(
        None, description="Settings of the adapters; only with method lora. Default: each field's default."
    )

    @property
    def effective_lora(self) -> Lora | None:
        """The adapters' settings, all defaults filled in; None with method full."""
        return (self.lora or Lora()) if self.method == "lora" else None
