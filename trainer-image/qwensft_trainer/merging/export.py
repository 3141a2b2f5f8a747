"""LLaMA-Factory's export: adapter and base, or fully tuned weights, written as one Hugging Face model directory."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import invalid_config
from qwensft_trainer.merging import weights
from qwensft_trainer.merging.planning import STORED_AS

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def base_dtype(model: Path) -> str:
    """bf16, fp16 or fp32: the dtype the base model's config states, bf16 when it states none."""
    config = files.read_json_object(model / "config.json") or {}
    return _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), "bf16")


def lossless_dtype(model: Path) -> str:
    """The one in which no weight of the base loses anything: its own, or fp32 where files hold others beside it."""
    own = base_dtype(model)
    stored = {tensor.dtype for file in weights.read_model(model) for tensor in file.tensors}
    if stored & set(weights.FLOATS) <= {STORED_AS[own]}:
        return own
    log(f"the base holds other weights than {own}: LLaMA-Factory gets them in fp32, with memory for that")
    return "fp32"


def export(completed: Mapping[str, Any]) -> None:
    """Run the export with its complete arguments. Raises InvalidConfig for what LLaMA-Factory refuses."""
    from llamafactory.train.tuner import export_model

    log(f"exporting to {completed['export_dir']} as {completed['infer_dtype']}")
    try:
        export_model(dict(completed))
    except ValueError as error:
        raise_unless_inputs(error)
        raise invalid_config(f"LLaMA-Factory refuses to export: {error}") from error
    gc.collect()
