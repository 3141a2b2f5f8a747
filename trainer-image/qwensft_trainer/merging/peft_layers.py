"""What an adapter makes of a weight, asked of peft's own layers: some rows at a time, so that no whole weight is held.

A model without memory for its weights gets the adapter as peft loads it; each of its layers is then lent rows of the
weight that it changes. ADR 0094 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from qwensft_trainer.merging import tensor_names

_ADAPTER = "default"


@dataclass(frozen=True)
class Error:
    """By how much two ways of computing W + s·B·A in float32 may differ, and whatever gives its rows a length.

    For the number in row i and column j: `column[i]` · `row[j]`, and its own size times `relative[i]`.
    """

    column: torch.Tensor
    row: torch.Tensor
    relative: torch.Tensor


class Layer:
    """A LoRA layer of peft. Used by one thread at a time: it is the layer that holds what is merged."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._weight = module.get_base_layer().weight
        self._placeholder = self._weight.data
        self._b = module.lora_B[_ADAPTER].weight
        self._all_b = self._b.data
        self._magnitude = module.lora_magnitude_vector[_ADAPTER].weight if module.use_dora[_ADAPTER] else None
        self._all_magnitudes = None if self._magnitude is None else self._magnitude.data
        self._lengths: torch.Tensor | None = None

    def merge(self, rows: slice, weight: torch.Tensor) -> torch.Tensor:
        """These rows of W in float32, [rows, in], with what the adapter adds. `weight` is used up."""
        self._weight.data, self._b.data = weight, self._all_b[rows]
        if self._magnitude is not None and self._all_magnitudes is not None:
            self._magnitude.data = self._all_magnitudes[rows]
        with torch.no_grad():
            self._module.merge()
        merged = self._weight.data
        self._module.merged_adapters.clear()
        self._weight.data = self._placeholder
        if self._magnitude is not None:
            self._lengths = self._module._cache_pop(f"{_ADAPTER}-weight_norm").float().reshape(-1)
        return merged

    @property
    def error(self) -> Error:
        """The bound for the rows that were merged last.

        A sum of r products has r roundings, each at most half an eps of the sum of their sizes, which is at most the
        product of the lengths of B's row and A's column. Two ways of computing it differ by twice that.
        """
        eps = torch.finfo(torch.float32).eps
        rank, columns = self._a.shape
        scale = abs(float(self._module.scaling[_ADAPTER]))
        column = self._b.data.float().norm(dim=1) * (eps * (rank + 2) * scale)
        relative = torch.full_like(column, 2 * eps)
        if self._magnitude is not None and self._lengths is not None:
            # Rows are multiplied by magnitude / length, and lengths are sums of squares in pieces of at least eight.
            relative += column * self._lengths_of_a.norm() / self._lengths + eps * columns / 8
            column = column * (self._magnitude.data.float().abs() / self._lengths)
        return Error(column, self._lengths_of_a, relative)

    @property
    def _a(self) -> torch.Tensor:
        a: torch.Tensor = self._module.lora_A[_ADAPTER].weight.data
        return a

    @cached_property
    def _lengths_of_a(self) -> torch.Tensor:
        return self._a.float().norm(dim=0)


def of_adapter(base: Path, adapter: Path, *, trust: bool) -> tuple[dict[str, Layer], dict[str, torch.Tensor]]:
    """The layers by the weight they change, and the tensors that peft puts in the place of the base's.

    Both by transformers' names of the parameters.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(base), trust_remote_code=trust)
    if rows := tensor_names.rows_of_embeddings(adapter / "adapter_model.safetensors"):
        config.get_text_config().vocab_size = rows
    with torch.device("meta"):
        model = tensor_names.model_class(config).from_config(config, trust_remote_code=trust)
    for module in model.modules():  # peft moves an adapter to where the weights are: one number for all costs nothing
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.zeros(1).expand(parameter.shape), requires_grad=False))
    model = PeftModel.from_pretrained(model, str(adapter), low_cpu_mem_usage=True).get_base_model()
    layers: dict[str, Layer] = {}
    replaced: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layers[f"{name}.weight"] = Layer(module)
        elif isinstance(module, ModulesToSaveWrapper):
            kept = module.modules_to_save[_ADAPTER].state_dict()
            replaced.update({f"{name}.{part}": tensor for part, tensor in kept.items()})
    return layers, replaced
