"""Imports of LLaMA-Factory what a supervised fine-tuning uses, in the worker, before anything else does.

Its `train.tuner` imports the workflows of all methods, with trl; all of them import matplotlib, for a plot that rank 0
draws in the end; and peft imports bitsandbytes wherever that is installed. Together they are a fifth of a worker's
start. ADR 0133 says why.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from qwensft_trainer.base import files, upstream

_OTHER_METHODS = ("dpo", "kto", "ppo", "pt", "rm")
_ON_BITSANDBYTES = ("galore_torch", "apollo_torch", "unsloth")  # LLaMA-Factory imports them where they are installed
_PLOTS = "llamafactory.extras.ploting"


def run_exp(arguments: Mapping[str, Any]) -> Callable[..., None]:
    """LLaMA-Factory's run_exp for these arguments, imported without what they do not use."""
    if arguments.get("stage") == "sft":
        for method in _OTHER_METHODS:
            _leave_out(f"llamafactory.train.{method}", **{f"run_{method}": _not_imported})
    _leave_out(_PLOTS, plot_loss=_plot_loss)
    if not uses_bitsandbytes(arguments):
        upstream.leave_bitsandbytes_out()
    tuner = importlib.import_module("llamafactory.train.tuner")
    run: Callable[..., None] = tuner.run_exp
    return run


def _leave_out(name: str, **members: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    sys.modules.setdefault(name, module)


def _not_imported(*_: Any, **__: Any) -> None:
    raise RuntimeError("only stage: sft is trained here; the other methods are not imported")


def _plot_loss(*arguments: Any, **named: Any) -> None:
    """LLaMA-Factory's own, which is imported when it is called."""
    sys.modules.pop(_PLOTS, None)
    importlib.import_module(_PLOTS).plot_loss(*arguments, **named)


def uses_bitsandbytes(arguments: Mapping[str, Any]) -> bool:
    """For quantised weights, 8-bit or paged states of optimizers, and in images with a package that imports it."""
    if any(importlib.util.find_spec(package) for package in _ON_BITSANDBYTES):
        return True
    optimizer = str(arguments.get("optim", ""))
    if arguments.get("quantization_bit") is not None or any(word in optimizer for word in ("8bit", "paged", "bnb")):
        return True
    return _is_quantised(Path(str(arguments.get("model_name_or_path"))))


def _is_quantised(model: Path) -> bool:
    """Whether the base's files are, by whichever method: then transformers looks for the packages itself."""
    config = files.read_json_object(model / "config.json") or {}
    parts = (config, config.get("text_config"))
    return any(isinstance(part, dict) and part.get("quantization_config") for part in parts)
