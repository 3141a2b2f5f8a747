"""What the rules in here look at: the run, LLaMA-Factory's arguments and the model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.contract.config import Run
from qwensft_trainer.model.architecture import Architecture

OTHER_IMAGE = "or set spec.worker.image to an image that holds it"


@dataclass(frozen=True)
class CheckedJob:
    """`arguments` are those of train.yaml; `zero` is the stage of DeepSpeed's ZeRO, None without DeepSpeed."""

    run: Run
    arguments: Mapping[str, Any]
    template: str
    model: Architecture
    zero: int | None

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is trained, and not the model's own weights."""
        return self.run.tuning.method == "lora"

    def is_on(self, argument: str) -> bool:
        """Whether a LLaMA-Factory argument is true."""
        return bool(self.arguments.get(argument))

    def names(self, argument: str, default: str = "") -> list[str]:
        """A comma-separated argument as a list."""
        return [name.strip() for name in str(self.arguments.get(argument) or default).split(",") if name.strip()]


Rule = Callable[[CheckedJob], Iterator[str]]
"""Raises PermanentError with the change to make, or yields warnings."""


def has_package(module: str) -> bool:
    """Whether a Python package is in this image, by the name of its module; it is not imported."""
    return importlib.util.find_spec(module) is not None
