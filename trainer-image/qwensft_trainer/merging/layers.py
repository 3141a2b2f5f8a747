"""Logits of a model of which only one layer is in memory: its weights come when it computes, and go afterwards.

Weights come by the names of the model's files; transformers renames and converts them as it does when it loads a model.
All is computed in float32.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qwensft_trainer.merging import tensor_names

Prompt = Mapping[str, Any]  # the inputs of a model's forward


@dataclass(frozen=True)
class Weights:
    """The tensors of a model's files: their `names`, `get` for one of them; it raises KeyError for another name.

    `finish` makes of a parameter's name and its float32 numbers, as they were loaded, what the model computes with; it
    may write to them.
    """

    names: Iterable[str]
    get: Callable[[str], torch.Tensor]
    finish: Callable[[str, torch.Tensor], torch.Tensor] | None = None


POSITIONS = 32
"""How many of the last positions of a prompt are compared."""

_META = torch.device("meta")


def config_of(directory: Path, *, trust: bool) -> Any:
    """What config.json says, as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(directory), trust_remote_code=trust)


def logits(config: Any, weights: Weights, prompts: Sequence[Prompt], *, trust: bool) -> list[Any]:
    """Logits [batch, positions, vocabulary] of each prompt, for the model of a configuration.

    Raises KeyError for a weight that is not among them.
    """
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # each of its threads keeps memory of its own
    model = _without_weights(config, trust=trust)
    _Streamed(model, tensor_names.names_in(model), weights)
    takes = inspect.signature(model.forward).parameters
    kept = {"logits_to_keep": POSITIONS} if "logits_to_keep" in takes else {}
    with torch.inference_mode():
        return [model(**prompt, **kept).logits[:, -POSITIONS:].float().contiguous() for prompt in prompts]


def _without_weights(config: Any, *, trust: bool) -> Any:
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = tensor_names.model_class(config).from_config(
            config, trust_remote_code=trust, dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval()


class _Streamed:
    """Hooks that give the parts of a model their weights: whole layers, and what stands outside of them."""

    def __init__(self, model: Any, name_of: Callable[[str], str], weights: Weights) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.modeling_utils import LoadStateDictConfig

        self._model, self._weights = model, weights
        self._config = LoadStateDictConfig(
            dtype=torch.float32, device_map={"": "cpu"}, weight_mapping=get_model_conversion_mapping(model)
        )
        parts = list(_parts(model))
        self._stored: dict[str, list[str]] = {part: [] for part in parts}
        by_parameter: dict[str, str] = {}
        for name in weights.names:
            by_parameter[name_of(name)] = name
            if (part := _owner(name_of(name), self._stored)) is not None:
                self._stored[part].append(name)
        self._tied = _tied(model, by_parameter)
        for part in parts:
            module = model.get_submodule(part)
            module.register_forward_pre_hook(self._load(part))
            module.register_forward_hook(self._drop(part))
            if isinstance(module, torch.nn.Embedding) and module is not model.get_input_embeddings():
                # Qwen3-VL's vision tower asks on which device these are before it calls them.
                model.get_submodule(part.rpartition(".")[0]).register_forward_pre_hook(self._load(part))

    def _load(self, part: str) -> Callable[..., None]:
        module = self._model.get_submodule(part)

        def hook(_: Any, __: Any) -> None:
            from transformers.core_model_loading import convert_and_load_state_dict_in_model

            weights = {name: self._get(name) for name in self._stored[part]}
            convert_and_load_state_dict_in_model(self._model, weights, self._config, None)
            del weights
            for name, parameter in list(module.named_parameters()):
                if parameter.device == _META:
                    _set(module, name, self._get(self._tied[f"{part}.{name}"]).float())
                if self._weights.finish is not None:
                    _set(module, name, self._weights.finish(f"{part}.{name}", module.get_parameter(name).data))

        return hook

    def _get(self, name: str) -> torch.Tensor:
        """One that may be written to: what has the dtype already is not copied by transformers."""
        tensor = self._weights.get(name)
        return tensor.clone() if self._weights.finish is not None and tensor.dtype is torch.float32 else tensor

    def _drop(self, part: str) -> Callable[..., None]:
        def hook(module: Any, _: Any, __: Any) -> None:
            for name, parameter in list(module.named_parameters()):
                _set(module, name, torch.empty_like(parameter, device=_META))

        return hook


def _parts(model: Any) -> Iterable[str]:
    """Names of modules that hold weights: whole layers (transformers' units of sharding), and leaves beside them."""
    layers = set(model._no_split_modules or ())
    within: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in within):
            continue
        if type(module).__name__ in layers or (name and next(module.parameters(recurse=False), None) is not None):
            within.append(name)
            yield name


def _owner(parameter: str, parts: Mapping[str, Any]) -> str | None:
    """The part that a parameter belongs to; None for what the model does not have."""
    while parameter:
        parameter = parameter.rpartition(".")[0]
        if parameter in parts:
            return parameter
    return None


def _tied(model: Any, by_parameter: Mapping[str, str]) -> dict[str, str]:
    """Parameters that have no tensor of their own: where their numbers are."""
    embeddings = model.get_input_embeddings().weight
    stored = next((by_parameter[name] for name, one in model.named_parameters() if one is embeddings), None)
    heads = [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
    return {f"{name}.weight": stored for name in heads} if stored else {}


def _set(module: Any, name: str, value: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, torch.nn.Parameter(value, requires_grad=False))
