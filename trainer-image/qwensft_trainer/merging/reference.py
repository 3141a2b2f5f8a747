"""What each tensor of a merged model must be, without the engine: by peft's own layers and transformers' names.

A model without memory for its weights gets the adapter as peft loads it; a module's weight is read, merged by the
module itself in float32, and given back. ADR 0093 says why.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open

from qwensft_trainer.merging import tensor_names
from qwensft_trainer.model import source as model_source

TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HEAD = "lm_head.weight"
_ADAPTER = "default"


@dataclass(frozen=True)
class Error:
    """By how much two ways of computing W + s·B·A in float32 may differ, and whatever gives its rows a length.

    For the number in row i and column j: `column[i]` · `row[j]`, and its own size times `relative[i]`.
    """

    column: torch.Tensor
    row: torch.Tensor
    relative: torch.Tensor


@dataclass(frozen=True)
class Expected:
    """A tensor as it must be: in the dtype of the result, and where arithmetic made it, also before it was rounded.

    `before` is the base's, None for a tensor that the base does not have.
    """

    rounded: torch.Tensor
    before: torch.Tensor | None
    exact: torch.Tensor | None = None
    error: Error | None = None


class Reference:
    """The tensors of base and adapter (`lora`), or of a trained checkpoint, by the names of the base's files.

    `dtype` is bf16, fp16 or fp32, None for each tensor's own. Raises KeyError for a name that must not be there.
    """

    def __init__(self, base: Path, trained: Path, *, lora: bool, dtype: str | None, untied: bool, trust: bool) -> None:
        self._dtype = dtype and TORCH_DTYPES[dtype]
        model = tensor_names.model_without_weights(base, trust=trust)
        name_of = tensor_names.names_in(model)
        self._base = Tensors(base)
        self._names = {stored: name for name, stored in tensor_names.unique(self._base.names, name_of).items()}
        self._embeddings = next((name for name in self._names if name.endswith("embed_tokens.weight")), "")
        if untied:
            self._names.setdefault(HEAD, HEAD)
        self._modules: dict[str, Any] = {}
        self._replaced: dict[str, torch.Tensor] = {}
        self._trained: Tensors | None = None
        if lora:
            self._modules, self._replaced = _of_adapter(base, trained, trust=trust)
        else:
            self._trained = Tensors(trained)
            self._own = tensor_names.unique(self._trained.names, name_of)
            parameters = model.state_dict().keys()
            self._learnt = {stored for stored in self._base.names if name_of(stored) in parameters}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        if self._trained is not None:
            self._trained.close()

    @property
    def names(self) -> set[str]:
        """All that the result's files must hold."""
        return set(self._names)

    @property
    def missed(self) -> set[str]:
        """What training has made and no name of the files stands for."""
        made = self._modules.keys() | self._replaced.keys() if self._trained is None else self._own.keys()
        return made - set(self._names.values())

    @property
    def left_out(self) -> set[str]:
        """Weights of the model that a trained checkpoint, which holds them all, does not."""
        return set() if self._trained is None else {name for name in self._learnt if self._stored(name) is None}

    def expected(self, name: str) -> Expected:
        """The tensor of that name in the result."""
        parameter = self._names[name]
        before = self._base.get(name) if name in self._base.names else None
        dtype = self._dtype_of(before if before is not None else self._base.get(self._embeddings))
        if parameter in self._modules and before is not None:
            return _merged(self._modules[parameter], before, dtype)
        new = self._replacement(name)
        if new is None:
            new = before if before is not None else self._base.get(self._embeddings)
        return Expected(rounded=new.to(dtype), before=before)

    def _replacement(self, name: str) -> torch.Tensor | None:
        if self._trained is None:
            return self._replaced.get(self._names[name])
        stored = self._stored(name)
        return None if stored is None else self._trained.get(stored)

    def _stored(self, name: str) -> str | None:
        """What the trained checkpoint calls it. Of tied embeddings, which the base may hold twice, it has one."""
        stored = self._own.get(self._names[name])
        return self._own.get(self._names[self._embeddings]) if stored is None and name == HEAD else stored

    def _dtype_of(self, stored: torch.Tensor) -> torch.dtype:
        return self._dtype if self._dtype is not None and stored.dtype in TORCH_DTYPES.values() else stored.dtype


class Tensors:
    """All tensors of a model directory, read one at a time from its open files."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for name in model_source.weight_files(directory):
            file = self._stack.enter_context(safe_open(str(directory / name), framework="pt"))
            self._files.update(dict.fromkeys(file.keys(), file))

    @property
    def names(self) -> set[str]:
        """Their names."""
        return set(self._files)

    def get(self, name: str) -> torch.Tensor:
        """One of them. Raises KeyError."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def close(self) -> None:
        """Close the files."""
        self._stack.close()


def _of_adapter(base: Path, adapter: Path, *, trust: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The layers of peft by the weight they change, and the tensors that it put in the place of the base's."""
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
    modules: dict[str, Any] = {}
    replaced: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            modules[f"{name}.weight"] = module
        elif isinstance(module, ModulesToSaveWrapper):
            kept = module.modules_to_save[_ADAPTER].state_dict()
            replaced.update({f"{name}.{part}": tensor for part, tensor in kept.items()})
    return modules, replaced


def _merged(module: Any, before: torch.Tensor, dtype: torch.dtype) -> Expected:
    layer = module.get_base_layer()
    placeholder = layer.weight
    layer.weight = torch.nn.Parameter(before.to(torch.float32, copy=True), requires_grad=False)
    with torch.no_grad():
        module.merge()
    exact = layer.weight.data
    module.merged_adapters.clear()
    layer.weight = placeholder
    return Expected(rounded=exact.to(dtype), before=before, exact=exact, error=_error(module))


def _error(module: Any) -> Error:
    """The bound for what was merged last.

    A sum of r products has r roundings, each at most half an eps of the sum of their sizes, which is at most the
    product of the lengths of B's row and A's column. Two ways of computing it differ by twice that.
    """
    eps = torch.finfo(torch.float32).eps
    a, b = (part[_ADAPTER].weight.detach().float() for part in (module.lora_A, module.lora_B))
    scale = abs(float(module.scaling[_ADAPTER]))
    column, row = b.norm(dim=1) * (eps * (a.shape[0] + 2) * scale), a.norm(dim=0)
    relative = torch.full_like(column, 2 * eps)
    if module.use_dora[_ADAPTER]:
        # Rows are multiplied by magnitude / length, and lengths are sums of squares in pieces of at least eight.
        lengths = module._cache_pop(f"{_ADAPTER}-weight_norm").float().reshape(-1)
        relative += column * row.norm() / lengths + eps * a.shape[1] / 8
        column = column * (module.lora_magnitude_vector[_ADAPTER].weight.detach().float().abs() / lengths)
    return Error(column, row, relative)
