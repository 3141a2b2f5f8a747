"""The shapes of Qwen's models: what the memory estimate has to know about a model, for those whose size is public.

`known` finds a model by its name, before anything is downloaded; `described` reads what the prepare stage found in the
model's own config.json. No memory is computed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

_SMALL, _LARGE = 151_936, 152_064  # Qwen's vocabulary, padded to multiples of 128 and of 512 (Qwen2 and 2.5 from 7B on)


@dataclass(frozen=True)
class Architecture:
    """Shape of a decoder. Sizes are numbers of elements; of a multimodal model they are the language model's."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int = 0  # of a dense mlp
    head_dim: int = 128
    vocabulary: int = _SMALL
    tied: bool = False  # lm_head is the transposed embedding
    experts: int = 0  # per layer; 0 = dense
    expert_intermediate: int = 0
    vision: int = 0  # parameters of the vision tower and what else is not the decoder
    weight_bytes: float = 2.0  # of a linear layer's parameter; less than 2 when the checkpoint is quantised

    @cached_property
    def embedding(self) -> int:
        """Parameters of embed_tokens; lm_head has as many."""
        return self.vocabulary * self.hidden

    @cached_property
    def embeddings(self) -> int:
        """Parameters of embed_tokens and lm_head together: these are never quantised."""
        return self.embedding if self.tied else 2 * self.embedding

    @cached_property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear modules, by the names that LoRA targets."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = {
            "q_proj": (self.hidden, query),
            "k_proj": (self.hidden, key),
            "v_proj": (self.hidden, key),
            "o_proj": (query, self.hidden),
        }
        if self.experts:
            return attention  # transformers holds all experts of a layer in one tensor, which LoRA does not reach
        mlp = {"gate_proj": (self.hidden, self.intermediate), "up_proj": (self.hidden, self.intermediate)}
        return attention | mlp | {"down_proj": (self.intermediate, self.hidden)}

    @cached_property
    def attention(self) -> int:
        """Parameters of one layer's self_attn."""
        return sum(rows * columns for name, (rows, columns) in self.matrices.items() if name in _ATTENTION)

    @cached_property
    def mlp(self) -> int:
        """Parameters of one layer's mlp, all experts included."""
        if self.experts:
            return self.experts * 3 * self.hidden * self.expert_intermediate
        return 3 * self.hidden * self.intermediate

    @cached_property
    def layer(self) -> int:
        """Parameters of one decoder layer."""
        return self.attention + self.mlp

    @cached_property
    def language(self) -> int:
        """Parameters of the language model; its norms and biases, about 0.1 %, are left out."""
        return self.embeddings + self.layers * self.layer

    @property
    def parameters(self) -> int:
        """All parameters of the checkpoint."""
        return self.language + self.vision


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def _moe(hidden: int, layers: int, heads: int, experts: tuple[int, int], kv_heads: int = 4) -> Architecture:
    count, intermediate = experts
    return Architecture(hidden, layers, heads, kv_heads, experts=count, expert_intermediate=intermediate)


_QWEN2 = {
    "0.5": Architecture(896, 24, 14, 2, 4864, head_dim=64, tied=True),
    "1.5": Architecture(1536, 28, 12, 2, 8960, tied=True),
    "3": Architecture(2048, 36, 16, 2, 11008, tied=True),
    "7": Architecture(3584, 28, 28, 4, 18944, vocabulary=_LARGE),
    "14": Architecture(5120, 48, 40, 8, 13824, vocabulary=_LARGE),
    "32": Architecture(5120, 64, 40, 8, 27648, vocabulary=_LARGE),
    "72": Architecture(8192, 80, 64, 8, 29568, vocabulary=_LARGE),
}
_QWEN3 = {
    "0.6": Architecture(1024, 28, 16, 8, 3072, tied=True),
    "1.7": Architecture(2048, 28, 16, 8, 6144, tied=True),
    "4": Architecture(2560, 36, 32, 8, 9728, tied=True),
    "8": Architecture(4096, 36, 32, 8, 12288),
    "14": Architecture(5120, 40, 40, 8, 17408),
    "32": Architecture(5120, 64, 64, 8, 25600),
    "30-A3": _moe(2048, 48, 32, (128, 768)),
    "235-A22": _moe(4096, 94, 64, (128, 1536)),
    "480-A35": _moe(6144, 62, 96, (160, 2560), kv_heads=8),
}
# Parameters of the vision towers, in millions.
_VISION = {
    "qwen2-vl": (_QWEN2, {"2": ("1.5", 665), "7": ("7", 676), "72": ("72", 702)}),
    "qvq": (_QWEN2, {"72": ("72", 702)}),
    "qwen2.5-vl": (_QWEN2, {"3": ("3", 669), "7": ("7", 677), "32": ("32", 690), "72": ("72", 707)}),
    "qwen3-vl": (
        _QWEN3,
        {
            "2": ("1.7", 407),
            "4": ("4", 416),
            "8": ("8", 576),
            "32": ("32", 596),
            "30-A3": ("30-A3", 539),
            "235-A22": ("235-A22", 577),
        },
    ),
}

_MODELS: dict[tuple[str, str], Architecture] = {
    **{("qwen2", size): _QWEN2[size] for size in ("0.5", "1.5", "7", "72")},
    **{("qwen2.5", size): shape for size, shape in _QWEN2.items()},
    ("qwq", "32"): _QWEN2["32"],
    **{("qwen3", size): shape for size, shape in _QWEN3.items()},
    **{
        (family, size): replace(shapes[like], vision=round(millions * 1e6))
        for family, (shapes, sizes) in _VISION.items()
        for size, (like, millions) in sizes.items()
    },
}

_NAME = re.compile(
    r"(?:.*/)?(?P<family>qwen2\.5|qwen2|qwen3|qwq|qvq)(?:-(?:coder|math))?(?P<vision>-vl)?"
    r"-(?P<size>[0-9.]+)b(?P<active>-a[0-9]+b)?(?P<rest>(?:-[a-z0-9]+)*)",
    re.IGNORECASE,
)
_STORED = {"awq": 0.516, "int4": 0.516, "4bit": 0.516, "int8": 1.03}  # FP8 is expanded to bf16 when it is loaded


def known(name: str) -> Architecture | None:
    """Return the shape of a model by its name, such as Qwen/Qwen3-8B-AWQ; None when it is not in the table."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    family = (match["family"] + (match["vision"] or "")).lower()
    size = match["size"] + (match["active"] or "").upper().removesuffix("B")
    found = _MODELS.get((family, size))
    if found is None:
        return None
    stored = next((_STORED[part] for part in match["rest"].lower().split("-") if part in _STORED), 2.0)
    return replace(found, weight_bytes=stored)


def described(facts: Mapping[str, Any], name: str) -> Architecture | None:
    """Return the shape that the prepare stage reports (`metrics.model`); None when a figure is missing or absurd.

    Args:
        facts: hiddenSize, layers, heads, kvHeads, headDim, intermediateSize, vocabSize, tied, experts,
            moeIntermediateSize, parameters.
        name: The model's name: it tells whether the checkpoint is quantised, which its figures do not.
    """
    named = known(name)
    needed = ("hiddenSize", "layers", "heads", "kvHeads", "headDim", "vocabSize", "parameters")
    optional = ("intermediateSize", "experts", "moeIntermediateSize")  # null, depending on the kind of layers
    sizes = {fact: facts.get(fact) for fact in needed} | {fact: facts.get(fact) or 0 for fact in optional}
    sound = all(isinstance(size, int | float) and size >= (fact in needed) for fact, size in sizes.items())
    if not sound:
        return None
    whole = {fact: int(size) for fact, size in sizes.items() if size is not None}
    shape = Architecture(
        whole["hiddenSize"],
        whole["layers"],
        whole["heads"],
        whole["kvHeads"],
        0 if whole["experts"] else whole["intermediateSize"],  # config.json of a mixture of experts has it, unused
        head_dim=whole["headDim"],
        vocabulary=whole["vocabSize"],
        tied=bool(facts.get("tied")),
        experts=whole["experts"],
        expert_intermediate=whole["moeIntermediateSize"],
        weight_bytes=named.weight_bytes if named else 2.0,
    )
    return replace(shape, vision=max(0, whole["parameters"] - shape.language))
