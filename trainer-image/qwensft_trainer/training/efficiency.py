"""What a training makes of its accelerators: the arithmetic that its tokens need, over what the devices could do (MFU).

Counted are the matrices that a token meets, of a mixture of experts those that are chosen for it. Attention and a
vision tower are left out, so long sequences and images show less than there was. Of the model's files headers are read.
ADR 0132 says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.model.architecture import Architecture

# Dense (without sparsity) bfloat16 peaks of the vendors' data sheets, in TFLOP/s. The first name that is part of the
# device's name counts, so the special ones stand before the general ones.
PEAK_TFLOPS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.2,
}
_HALF = ("bf16", "fp16", "pure_bf16")


def of_model(path: Path, arguments: Mapping[str, Any]) -> float | None:
    """`flops_per_token` of a model's files; None, with a line in the log, when they do not tell: this only informs."""
    try:
        return flops_per_token(Architecture.read(path), arguments)
    except (StageError, OSError, ValueError, KeyError, TypeError) as error:
        log(f"how well the accelerators are used cannot be told: {error}")
        return None


def flops_per_token(model: Architecture, arguments: Mapping[str, Any]) -> float | None:
    """FLOPs of forward and backward for one token; None where the number format is none of the known peaks'.

    Forward and the gradients of what passes through take 2 for each weight, the gradients of trained weights 2 more.
    Adapters are small beside what they are trained on; what gradient checkpointing computes again does not count.
    """
    if not any(arguments.get(name) is True for name in _HALF):
        return None
    return 2.0 * _weights_met(model) * _passes(model, arguments)


def peak_flops(device: str | None) -> float | None:
    """FLOP/s of one device by its name, None where it is not known."""
    found = next((peak for name, peak in PEAK_TFLOPS.items() if device and name in device), None)
    return found * 1e12 if found else None


def _passes(model: Architecture, arguments: Mapping[str, Any]) -> float:
    method = arguments.get("finetuning_type", "lora")
    if method == "full":
        return 3.0
    if method == "lora":
        return 2.0
    layers = int(arguments.get("freeze_trainable_layers", 2))
    share = min(1.0, abs(layers) / model.layers) if model.layers else 1.0
    # The last layers (positive): gradients stop there. The first ones: they pass through all.
    return 1.0 + 2.0 * share if layers > 0 else 2.0 + share


def _weights_met(model: Architecture) -> float:
    chosen = int(model.text.get("num_experts_per_tok") or 0) / model.experts if model.experts else 1.0
    met = 0.0
    for name, entry in model.tensors.items():
        elements = math.prod(entry["shape"]) * model.packed(name, entry["dtype"])
        if not name.endswith((".weight", ".qweight", ".gate_up_proj", ".down_proj")) or model.is_vision(name):
            continue
        if len(entry["shape"]) < 2 or name.startswith("mtp.") or "conv1d" in name:
            continue
        if "embed_tokens" in name:
            met += elements if model.tied else 0.0  # as the output layer
        elif model.tied and "lm_head" in name:
            continue
        else:
            met += elements * (chosen if ".experts." in name else 1.0)
    return met
