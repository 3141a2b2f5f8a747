"""What the published Qwen models are, in narrow: configurations, names and shapes of tensors, processors.

Names are those of the published files, old-fashioned ones included, in the order of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Config = dict[str, Any]
Shapes = Iterator[tuple[str, tuple[int, ...]]]

QWEN3: Config = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.3,
    "intermediate_size": 384,
    "max_position_embeddings": 4096,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
# Half as wide: these are for tests of the code paths, the quickstart answers questions with a QWEN3.
_NARROW = QWEN3 | {
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "transformers_version": "4.57.1",  # without it transformers warns of a tokenizer of another family
}
_WITHOUT_HEAD_DIM = {key: value for key, value in _NARROW.items() if key not in ("attention_bias", "head_dim")}

QWEN2: Config = _WITHOUT_HEAD_DIM | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "tie_word_embeddings": False,  # as in Qwen2.5 from 7B on
}
QWEN3_MOE: Config = _NARROW | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 64,
    "norm_topk_prob": True,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
_VISION_TOKENS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}
_VISION: Config = {
    "depth": 2,
    "hidden_size": 32,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN2_5_VL: Config = (
    _WITHOUT_HEAD_DIM
    | _VISION_TOKENS
    | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "vision_config": _VISION
        | {
            "fullatt_block_indexes": [1],
            "hidden_act": "silu",
            "model_type": "qwen2_5_vl",
            "patch_size": 14,
            "tokens_per_second": 2,
            "window_size": 112,
        },
    }
)
QWEN3_VL: Config = _VISION_TOKENS | {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
    "text_config": _NARROW
    | {
        "architectures": None,
        "model_type": "qwen3_vl_text",
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 3, 3], "rope_type": "default"},
    },
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "transformers_version": "4.57.1",
    "vision_config": _VISION
    | {
        "deepstack_visual_indexes": [0],
        "hidden_act": "gelu_pytorch_tanh",
        "model_type": "qwen3_vl",
        "num_position_embeddings": 64,
        "patch_size": 16,
    },
}
VISION_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _attention(prefix: str, config: Config, *, bias: bool) -> Shapes:
    width = config["hidden_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    for name, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield f"{prefix}{name}_proj.weight", (rows, width)
        if bias:
            yield f"{prefix}{name}_proj.bias", (rows,)
    yield prefix + "o_proj.weight", (width, queries)
    if not bias:  # Qwen3 normalises queries and keys instead
        yield prefix + "q_norm.weight", (head,)
        yield prefix + "k_norm.weight", (head,)


def _mlp(prefix: str, width: int, inner: int) -> Shapes:
    yield prefix + "gate_proj.weight", (inner, width)
    yield prefix + "up_proj.weight", (inner, width)
    yield prefix + "down_proj.weight", (width, inner)


def _layer(prefix: str, config: Config, *, bias: bool) -> Shapes:
    width = config["hidden_size"]
    yield prefix + "input_layernorm.weight", (width,)
    yield from _attention(prefix + "self_attn.", config, bias=bias)
    yield prefix + "post_attention_layernorm.weight", (width,)
    if experts := config.get("num_experts"):
        yield prefix + "mlp.gate.weight", (experts, width)
        for expert in range(experts):
            yield from _mlp(f"{prefix}mlp.experts.{expert}.", width, config["moe_intermediate_size"])
    else:
        yield from _mlp(prefix + "mlp.", width, config["intermediate_size"])


def _language(config: Config, *, bias: bool = False, base: str = "model.") -> Shapes:
    """The language model, dense or of experts, under the names transformers gives it."""
    width = config["hidden_size"]
    yield base + "embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        yield from _layer(f"{base}layers.{layer}.", config, bias=bias)
    yield base + "norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], width)


def mtp(config: Config) -> Shapes:
    """Qwen3.5's part that predicts one token more: transformers neither loads nor saves it."""
    width = config["hidden_size"]
    yield "mtp.fc.weight", (width, 2 * width)
    yield from _layer("mtp.layers.0.", config, bias=False)
    for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        yield f"mtp.{norm}.weight", (width,)


def _linear(name: str, rows: int, columns: int) -> Shapes:
    yield name + ".weight", (rows, columns)
    yield name + ".bias", (rows,)


def _patches(base: str, vision: Config) -> tuple[str, tuple[int, ...]]:
    patch = vision["patch_size"]
    shape = (vision["hidden_size"], vision["in_channels"], vision["temporal_patch_size"], patch, patch)
    return f"{base}patch_embed.proj.weight", shape


def _qwen2_5_vl(config: Config) -> Shapes:
    yield from _language(config, bias=True)
    vision = config["vision_config"]
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    merged = width * vision["spatial_merge_size"] ** 2
    yield _patches("visual.", vision)
    for block in range(vision["depth"]):
        prefix = f"visual.blocks.{block}."
        yield prefix + "norm1.weight", (width,)
        yield prefix + "norm2.weight", (width,)
        yield from _linear(prefix + "attn.qkv", 3 * width, width)
        yield from _linear(prefix + "attn.proj", width, width)
        yield from _linear(prefix + "mlp.gate_proj", inner, width)
        yield from _linear(prefix + "mlp.up_proj", inner, width)
        yield from _linear(prefix + "mlp.down_proj", width, inner)
    yield "visual.merger.ln_q.weight", (width,)
    yield from _linear("visual.merger.mlp.0", merged, merged)
    yield from _linear("visual.merger.mlp.2", vision["out_hidden_size"], merged)


def _qwen3_vl(config: Config) -> Shapes:
    yield from _language(config["text_config"], base="model.language_model.")
    vision, base = config["vision_config"], "model.visual."
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    merged = width * vision["spatial_merge_size"] ** 2
    yield _patches(base, vision)
    yield base + "patch_embed.proj.bias", (width,)
    yield base + "pos_embed.weight", (vision["num_position_embeddings"], width)
    for block in range(vision["depth"]):
        prefix = f"{base}blocks.{block}."
        for norm in ("norm1", "norm2"):
            yield f"{prefix}{norm}.weight", (width,)
            yield f"{prefix}{norm}.bias", (width,)
        yield from _linear(prefix + "attn.qkv", 3 * width, width)
        yield from _linear(prefix + "attn.proj", width, width)
        yield from _linear(prefix + "mlp.linear_fc1", inner, width)
        yield from _linear(prefix + "mlp.linear_fc2", width, inner)
    mergers = [("merger", width)]
    mergers += [(f"deepstack_merger_list.{n}", merged) for n, _ in enumerate(vision["deepstack_visual_indexes"])]
    for merger, normed in mergers:
        yield f"{base}{merger}.norm.weight", (normed,)
        yield f"{base}{merger}.norm.bias", (normed,)
        yield from _linear(f"{base}{merger}.linear_fc1", merged, merged)
        yield from _linear(f"{base}{merger}.linear_fc2", vision["out_hidden_size"], merged)


def language_of(config: Config) -> Config:
    """The part of a configuration that describes the language model."""
    return config.get("text_config", config)  # type: ignore[no-any-return]


def _processor(patch: int, kind: str, mean: list[float], deviation: list[float]) -> dict[str, Config]:
    """preprocessor_config.json and video_preprocessor_config.json; images end up with 4 to 16 visual tokens."""
    cell = 2 * patch
    common = {
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": mean,
        "image_std": deviation,
        "size": {"shortest_edge": 4 * cell**2, "longest_edge": 16 * cell**2},
        "processor_class": f"{kind}Processor",
    }
    video = "Qwen3VLVideoProcessor" if kind == "Qwen3VL" else "Qwen2VLVideoProcessor"
    return {
        "preprocessor_config.json": common | {"image_processor_type": "Qwen2VLImageProcessorFast"},
        "video_preprocessor_config.json": common | {"video_processor_type": video},
    }


_CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
ARCHITECTURES: dict[str, tuple[Config, Callable[[Config], Shapes], dict[str, Config]]] = {
    "qwen3": (QWEN3, _language, {}),
    "qwen2": (QWEN2, lambda config: _language(config, bias=True), {}),
    "qwen3_moe": (QWEN3_MOE, _language, {}),
    "qwen2_5_vl": (QWEN2_5_VL, _qwen2_5_vl, _processor(14, "Qwen2_5_VL", *_CLIP)),
    "qwen3_vl": (QWEN3_VL, _qwen3_vl, _processor(16, "Qwen3VL", [0.5] * 3, [0.5] * 3)),
}
