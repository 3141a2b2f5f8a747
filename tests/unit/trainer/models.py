"""Model directories of all families, small enough to be written in a moment: config.json, headers, chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import safetensors

CHATML = "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
HYBRID = CHATML + "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
THINKING = CHATML + "{{ '<|im_start|>assistant\\n<think>\\n' }}"
PRESERVING = HYBRID + "{% if preserve_thinking is defined and preserve_thinking is true %}{% endif %}"
LLAMA = "{{ '<|start_header_id|>' + message['role'] }}"

TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 10,
    "max_position_embeddings": 4096,
}
LAYER: dict[str, tuple[int, ...]] = {
    "self_attn.q_proj": (8, 8),
    "self_attn.k_proj": (4, 8),
    "self_attn.v_proj": (4, 8),
    "self_attn.o_proj": (8, 8),
    "self_attn.q_norm": (2,),
    "mlp.gate_proj": (16, 8),
    "mlp.up_proj": (16, 8),
    "mlp.down_proj": (8, 16),
    "input_layernorm": (8,),
}
EXPERT = {f"mlp.experts.{number}.up_proj": (6, 8) for number in (0, 1)}
MOE_LAYER = {name: shape for name, shape in LAYER.items() if "mlp" not in name} | EXPERT | {"mlp.gate": (2, 8)}
TOWER: dict[str, tuple[int, ...]] = {
    "visual.patch_embed.proj": (8, 3, 2, 4, 4),
    "visual.blocks.0.attn.qkv": (24, 8),
    "visual.blocks.0.norm1": (8,),
    "visual.merger.mlp.0": (8, 8),
}
PARAMETERS_OF_A_LAYER = 64 + 32 + 32 + 64 + 2 + 128 * 3 + 8


def weights(layer: dict[str, tuple[int, ...]], *, head: bool, more: dict[str, tuple[int, ...]] | None = None) -> Any:
    """Shapes of a model of two such layers."""
    shapes = {f"model.layers.{number}.{name}.weight": shape for number in (0, 1) for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": (10, 8), "model.norm.weight": (8,)}
    shapes |= {f"{name}.weight": shape for name, shape in (more or {}).items()}
    return shapes | ({"lm_head.weight": (10, 8)} if head else {})


def write(directory: Path, model_type: str, *, chat: str | None = HYBRID, head: bool = False, **config: Any) -> None:
    """Make `directory` a model of that type; `config` is added to its config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    vision, mixture = "_vl" in model_type or model_type.startswith("qwen3_5"), "moe" in model_type
    experts = {"num_experts": 2, "moe_intermediate_size": 6} if mixture or model_type == "qwen3_next" else {}
    text = TEXT | experts | {"tie_word_embeddings": not head}
    values = {"text_config": text, "vision_config": {"depth": 1}} if vision else text
    (directory / "config.json").write_text(json.dumps({"model_type": model_type} | values | config))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text(json.dumps({} if chat is None else {"chat_template": chat}))
    if vision:
        (directory / "preprocessor_config.json").write_text("{}")
    shapes = weights(MOE_LAYER if experts else LAYER, head=head, more=TOWER if vision else None)
    (directory / "model.safetensors").write_bytes(safetensors(shapes))
