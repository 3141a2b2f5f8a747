"""What config.json and the headers of the weight files say about a model: sizes, modules, number format.

Read without torch, in milliseconds. What follows from it for a job is the part of `model.checks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from qwensft_trainer.model import families
from qwensft_trainer.model import source as model_source

# In checkpoints of mixtures of experts every expert is a module; transformers 5 makes them one tensor, out of reach of
# LoRA and bitsandbytes. The router is no linear layer there either.
_EXPERTS = ".experts."
_ROUTER = ".mlp.gate"
_EMBEDDINGS = ("embed_tokens", "pos_embed")  # pos_embed: of Qwen3-VL's pictures
_NOT_LOADED = "mtp."  # layers for speculative decoding, which transformers leaves in the files
_HEAD = "lm_head"
_VISION = "visual."

# Beside the quantised weights: scales, zero points and the like, which are no parameters. bitsandbytes calls all of its
# own "<module>.weight.<something>".
_AUXILIARY = ("scales", "qzeros", "g_idx", "weight_scale_inv", "weight_scale", "input_scale")
_BITSANDBYTES = ".weight."


@dataclass(frozen=True)
class Architecture:
    """`config` is config.json; `tensors` are {name: {dtype, shape}} of all weight files."""

    config: dict[str, Any]
    tensors: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of a complete model directory."""
        return cls(families.config_of(directory), model_source.tensors_of(directory))

    @property
    def model_type(self) -> str:
        """The architecture, by its name in transformers."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def text(self) -> dict[str, Any]:
        """The configuration of the language model: a part of config.json in vision-language models."""
        text = self.config.get("text_config")
        return text if isinstance(text, dict) else self.config

    @property
    def reads_images(self) -> bool:
        """Whether it is a vision-language model."""
        return isinstance(self.config.get("vision_config"), dict)

    @property
    def layers(self) -> int:
        """Layers of the language model, 0 when config.json does not say."""
        return int(self.text.get("num_hidden_layers") or 0)

    @property
    def positions(self) -> int | None:
        """How many tokens the model was made for, stretching (YaRN) in its config.json included."""
        positions: int | None = self.text.get("max_position_embeddings")
        stretching = self.text.get("rope_scaling") or self.text.get("rope_parameters") or {}
        factor, original = stretching.get("factor"), stretching.get("original_max_position_embeddings")
        if positions and factor and original:
            return max(positions, int(factor * original))
        return positions

    @property
    def experts(self) -> int | None:
        """Experts of a layer; None for a dense model."""
        return self.text.get("num_experts") or self.text.get("num_local_experts") or None

    @cached_property
    def tied(self) -> bool:
        """Whether the output layer is the input embeddings."""
        entry = self.config.get("tie_word_embeddings", self.text.get("tie_word_embeddings", False))
        return bool(entry) or not any(_is_named(name, _HEAD) for name in self.modules)

    @property
    def quantization(self) -> str | None:
        """The quantization method of the files (gptq, awq, fp8, bitsandbytes, …); None for plain weights."""
        quantization = self.config.get("quantization_config") or self.text.get("quantization_config")
        return str(quantization.get("quant_method", "unknown")).lower() if isinstance(quantization, dict) else None

    @cached_property
    def modules(self) -> frozenset[str]:
        """Names of all modules that hold weights, as in the files."""
        ends = (".weight", ".qweight", ".bias")
        return frozenset(name.removesuffix(end) for name in self.tensors for end in ends if name.endswith(end))

    @cached_property
    def linear_modules(self) -> frozenset[str]:
        """Names of the linear layers that LoRA can reach, the output layer included where it is one of its own."""
        return frozenset(
            name
            for name in self.modules
            if self._is_matrix(name)
            and _EXPERTS not in name
            and not (self.experts and name.endswith(_ROUTER))
            and not name.startswith(_NOT_LOADED)
            and not any(_is_named(name, embeddings) for embeddings in _EMBEDDINGS)
            and not (self.tied and _is_named(name, _HEAD))
        )

    def is_vision(self, name: str) -> bool:
        """Whether a module or tensor belongs to the vision tower or its projector."""
        return _VISION in f"{name}."

    @property
    def parameters(self) -> int:
        """Weights, also of packed ones; tied ones count once."""
        return sum(
            math.prod(entry["shape"]) * self.packed(name, entry["dtype"])
            for name, entry in self.tensors.items()
            if not name.endswith(_AUXILIARY)
            and _BITSANDBYTES not in name
            and not (self.tied and _is_named(name.removesuffix(".weight"), _HEAD))
        )

    def _is_matrix(self, name: str) -> bool:
        packed = f"{name}.qweight" in self.tensors
        entry = self.tensors.get(f"{name}.weight")
        return packed or (entry is not None and len(entry["shape"]) == 2)

    def packed(self, name: str, dtype: str) -> int:
        """Weights in one element of a tensor."""
        quantization = self.config.get("quantization_config") or {}
        if name.endswith(".qweight") and dtype == "I32":
            return int(32 // int(quantization.get("bits") or quantization.get("w_bit") or 4))
        if quantization.get("load_in_4bit") and dtype == "U8":
            return 2
        return 1


def describe(directory: Path) -> dict[str, int | bool | None]:
    """The model's shape, for the memory estimate. None stands for what config.json does not say."""
    architecture = Architecture.read(directory)
    text = architecture.text
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    return {
        "hiddenSize": hidden,
        "layers": text.get("num_hidden_layers"),
        "heads": heads,
        "kvHeads": text.get("num_key_value_heads") or heads,
        "headDim": text.get("head_dim") or (hidden // heads if hidden and heads else None),
        "intermediateSize": text.get("intermediate_size"),
        "vocabSize": text.get("vocab_size"),
        "tied": architecture.tied,
        "experts": architecture.experts,
        "moeIntermediateSize": text.get("moe_intermediate_size") if architecture.experts else None,
        "parameters": architecture.parameters,
    }


def _is_named(module: str, leaf: str) -> bool:
    return module == leaf or module.endswith(f".{leaf}")
