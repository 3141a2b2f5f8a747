"""What each tensor of a merged model must be, without the engine: by peft's own layers and transformers' names.

Nothing is computed here before somebody asks for rows of it. ADRs 0093 and 0094 say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open

from qwensft_trainer.merging import bits, peft_layers, tensor_names
from qwensft_trainer.merging.layers import Weights
from qwensft_trainer.merging.peft_layers import Layer
from qwensft_trainer.model import source as model_source

TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Expected:
    """A tensor as it must be: the `source`'s numbers in `dtype`, after the `layer` has changed them.

    `before` is the base's, None for a tensor that the base does not have.
    """

    source: torch.Tensor
    dtype: torch.dtype
    before: torch.Tensor | None
    layer: Layer | None = None


class Reference:
    """The tensors of base and adapter (`lora`), or of a trained checkpoint, by the names of the base's files.

    `dtype` is bf16, fp16 or fp32, None for each tensor's own. Raises KeyError for a name that must not be there.
    """

    def __init__(self, base: Path, trained: Path, *, lora: bool, dtype: str | None, untied: bool, trust: bool) -> None:
        self._dtype = dtype and TORCH_DTYPES[dtype]
        model = tensor_names.model_without_weights(base, trust=trust)
        name_of = tensor_names.names_in(model)
        self._stack = ExitStack()
        self._base = self._stack.enter_context(Tensors(base))
        self._stored_as = {name_of(stored): stored for stored in self._base.names}
        self._names = {stored: name for name, stored in tensor_names.unique(self._base.names, name_of).items()}
        self._embeddings = next((name for name in self._names if name.endswith("embed_tokens.weight")), "")
        if untied:
            self._names.setdefault(HEAD, HEAD)
        self._layers: dict[str, Layer] = {}
        self._replaced: dict[str, torch.Tensor] = {}
        self._trained: Tensors | None = None
        if lora:
            self._layers, self._replaced = peft_layers.of_adapter(base, trained, trust=trust)
        else:
            self._trained = self._stack.enter_context(Tensors(trained))
            self._own = tensor_names.unique(self._trained.names, name_of)
            parameters = model.state_dict().keys()
            self._learnt = {stored for stored in self._base.names if name_of(stored) in parameters}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> set[str]:
        """All that the result's files must hold."""
        return set(self._names)

    @property
    def missed(self) -> set[str]:
        """What training has made and no name of the files stands for."""
        made = self._layers.keys() | self._replaced.keys() if self._trained is None else self._own.keys()
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
        if parameter in self._layers and before is not None:
            return Expected(before, dtype, before, self._layers[parameter])
        new = self._replacement(name)
        if new is None:
            new = before if before is not None else self._base.get(self._embeddings)
        return Expected(new, dtype, before)

    def weights(self, merged: Tensors | None = None) -> Weights:
        """What transformers loads base and training from, before any name of the merged files plays a part.

        Parameters are changed after transformers has loaded them, and rounded as the result is: with `merged`, as its
        numbers are where they lie next to those, as the order of sums may decide.
        """
        names, get = self.names, self._loaded
        if self._trained is not None:
            names, get = self._trained.names, self._trained.get
        return Weights(names, get, partial(self._finish, merged))

    def _loaded(self, name: str) -> torch.Tensor:
        return self.expected(name).source

    def _finish(self, merged: Tensors | None, parameter: str, weight: torch.Tensor) -> torch.Tensor:
        """What training makes of a parameter's float32 numbers, which are used up."""
        stored = self._stored_as.get(parameter, self._embeddings)
        dtype = self._dtype_of(self._base.get(stored))
        layer = self._layers.get(parameter)
        if parameter in self._replaced:
            weight = self._replaced[parameter].to(torch.float32, copy=True)
        if layer is None:
            for piece in weight.view(-1).split(bits.PIECE) if dtype is not torch.float32 else ():
                piece.copy_(piece.to(dtype))
            return weight
        there = merged.get(stored) if merged is not None else None
        for rows in rows_of(weight):
            rounded = layer.merge(rows, weight[rows]).to(dtype)
            if there is not None and there.shape == weight.shape and not bits.same(there[rows], rounded):
                rounded = torch.where(bits.units(there[rows], rounded) <= 1, there[rows], rounded)
            weight[rows] = rounded
        return weight

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def rows_of(tensor: torch.Tensor) -> Iterator[slice]:
    """Some rows after the other, each a piece of `bits.PIECE` numbers, or one row."""
    at_once = max(1, bits.PIECE // max(1, tensor[0].numel()))
    for first in range(0, tensor.shape[0], at_once):
        yield slice(first, min(first + at_once, tensor.shape[0]))
