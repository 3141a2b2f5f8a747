"""What an adapter settles for whoever trains it on: its files hold rank, targets and the rest, whatever is asked for.

So a job has to say of the adapter what the one says that has trained it. The two are compared here, before anything
runs; the trainer compares again, with the files. Beside it the rules between `model.adapter` and the other blocks.
ADR 0195 says why.
"""

from __future__ import annotations

import json
from typing import Final

from .base import Rule
from .spec import SpecFields
from .tuning import ADAPTER_METHODS, Vision

RULES: Final = (
    Rule(
        cel=f"!has(self.model.adapter) || self.?tuning.?method.orDefault() in {list(ADAPTER_METHODS)}",
        message="the methods full and freeze train no adapter: remove model.adapter, or set tuning.method: lora, qlora "
        "or dora. To train all weights of what another run has learnt, use model.source.run",
        check=lambda spec: spec.model.adapter is None or spec.tuning.uses_adapter,
        field=".model.adapter",
    ),
    Rule(
        cel="!has(self.model.adapter) || !self.?tuning.?lora.?pissa.orDefault()",
        message="PiSSA begins a new adapter, and model.adapter is trained on: remove tuning.lora.pissa. The adapter of "
        "a run with PiSSA is a plain one with twice its rank and alpha",
        check=lambda spec: spec.model.adapter is None or spec.tuning.lora is None or not spec.tuning.lora.pissa,
        field=".tuning.lora.pissa",
    ),
)

Settled = dict[str, str | int | float | bool | list[str]]


def differences(earlier: SpecFields, spec: SpecFields) -> list[str]:
    """Return what to change in `spec` so that it trains on the adapter of `earlier`; nothing where it does.

    Both train adapters. Each is a part of a sentence that says what to do.
    """
    made, own = _settled(earlier, made=True), _settled(spec)
    if isinstance(made["spec.tuning.lora.alpha"], float):
        return [
            "begin with its merged model (spec.model.source.run): PiSSA with rsLoRA has left an alpha that is no whole "
            "number"
        ]
    return [
        f"set {path} to {_shown(made[path])} (it is {_shown(own[path])})" for path in own if made[path] != own[path]
    ]


def _settled(spec: SpecFields, *, made: bool = False) -> Settled:
    """What the fields say of the adapter; `made`: of the one that is left in the end."""
    tuning, lora = spec.tuning, spec.tuning.effective_lora
    if lora is None:
        raise ValueError(f"method {tuning.method} trains no adapter")
    rank, alpha = lora.rank, lora.effective_alpha
    settled: Settled = {
        "spec.tuning.method": "dora" if tuning.method == "dora" else "lora",
        "spec.tuning.lora.rank": rank,
        "spec.tuning.lora.alpha": alpha,
        "spec.tuning.lora.dropout": lora.dropout,
        "spec.tuning.lora.targets": sorted(set(lora.targets)),
        "spec.tuning.lora.additionalTargets": sorted(set(lora.additional_targets)),
        "spec.tuning.lora.rslora": lora.rslora,
    }
    if made and lora.pissa:  # the trainer leaves a plain adapter of the base as it came (ADR 0057)
        settled["spec.tuning.lora.rank"] = 2 * rank
        settled["spec.tuning.lora.alpha"] = alpha * 2**0.5 if lora.rslora else 2 * alpha
    for name, frozen in (tuning.vision or Vision()).model_dump(by_alias=True).items():
        settled[f"spec.tuning.vision.{name}"] = frozen
    return settled | {
        "spec.model.addTokens": spec.model.add_tokens,
        "spec.model.addSpecialTokens": spec.model.add_special_tokens,
    }


def _shown(value: str | float | list[str]) -> str:
    """As it is written in YAML."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return value if isinstance(value, str) else json.dumps(value)
