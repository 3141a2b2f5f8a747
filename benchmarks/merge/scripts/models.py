"""Writes a base of random bfloat16 weights in Qwen2.5's shapes, and an adapter of all its linear layers.

Weights are made and written a piece at a time, so that no model is ever in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

import make_tiny_model
from tiny_architectures import ARCHITECTURES, Config

SIZES: dict[str, dict[str, Any]] = {
    "0.5": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "intermediate_size": 4864},
    "1.5": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "intermediate_size": 8960},
    "3": {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "intermediate_size": 11008},
    "72": {
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 29568,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}
"""By billions of parameters; what figures of 72 are extrapolated to is never written."""

RANK, ALPHA = 16, 32
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_SHARD = 2 * 10**9
_PIECE = 4 << 20  # numbers
_DEVIATION = 0.02
_TEXT = "The kiln cools for eleven hours before anybody opens its door, and nobody knows who lit it. "

Shape = tuple[int, ...]


def config_of(size: str) -> Config:
    """config.json of a model of so many billions of parameters."""
    common = {"num_key_value_heads": 2, "tie_word_embeddings": True, "torch_dtype": "bfloat16"}
    lengths = {"initializer_range": _DEVIATION, "max_position_embeddings": 32768}
    return ARCHITECTURES["qwen2"][0] | common | lengths | {"max_window_layers": 21} | SIZES[size]


def shapes_of(size: str) -> dict[str, Shape]:
    """Its tensors in the order of the layers."""
    return dict(ARCHITECTURES["qwen2"][1](config_of(size)))


def is_touched(name: str) -> bool:
    """Whether the adapter changes the tensor."""
    return name.endswith(tuple(f"{module}.weight" for module in _LINEAR))


def write_base(directory: Path, size: str) -> None:
    """A model directory as published: shards of at most 2 GB with their index, configuration, tokenizer."""
    directory.mkdir(parents=True)
    source = make_tiny_model.tokenizer_directory()
    for name in make_tiny_model.TOKENIZER_FILES:
        shutil.copyfile(source / name, directory / name)
    _write_json(directory / "config.json", config_of(size))
    _write_json(directory / "generation_config.json", make_tiny_model.GENERATION_CONFIG)
    shards = list(_shards(shapes_of(size)))
    generator = np.random.default_rng(0)
    places: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        _write(directory / name, shapes, "BF16", generator)
        places |= dict.fromkeys(shapes, name)
    if len(shards) > 1:
        total = sum(2 * count_of(shape) for shapes in shards for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        _write_json(directory / "model.safetensors.index.json", index)


def write_adapter(directory: Path, size: str) -> None:
    """An adapter as peft saves it, with float32 matrices; what it adds is about a hundredth of the weights."""
    directory.mkdir(parents=True)
    shapes: dict[str, Shape] = {}
    for name, (rows, columns) in ((name, shape) for name, shape in shapes_of(size).items() if is_touched(name)):
        module = "base_model.model." + name.removesuffix(".weight")
        shapes |= {f"{module}.lora_A.weight": (RANK, columns), f"{module}.lora_B.weight": (rows, RANK)}
    _write(directory / "adapter_model.safetensors", dict(sorted(shapes.items())), "F32", np.random.default_rng(1))
    config = {
        "base_model_name_or_path": "base",
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": list(_LINEAR),
        "task_type": "CAUSAL_LM",
    }
    _write_json(directory / "adapter_config.json", config)


def write_rows(directory: Path) -> None:
    """Datasets whose first rows the verification asks the models about."""
    directory.mkdir(parents=True)
    for number in range(3):
        row = {"messages": [{"role": "user", "content": f"{number}. {_TEXT * 8}"}]}
        parquet.write_table(pyarrow.Table.from_pylist([row]), directory / f"rows-{number}.parquet")


def count_of(shape: Shape) -> int:
    """Numbers of a tensor."""
    return int(np.prod(shape))


def _shards(shapes: dict[str, Shape]) -> Iterator[dict[str, Shape]]:
    part: dict[str, Shape] = {}
    room = _SHARD
    for name, shape in shapes.items():
        if part and 2 * count_of(shape) > room:
            yield dict(sorted(part.items()))
            part, room = {}, _SHARD
        part[name] = shape
        room -= 2 * count_of(shape)
    yield dict(sorted(part.items()))


def _write(path: Path, shapes: dict[str, Shape], dtype: str, generator: np.random.Generator) -> None:
    width = 2 if dtype == "BF16" else 4
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + width * count_of(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            for start in range(0, count_of(shape), _PIECE):
                values = _numbers(name, min(_PIECE, count_of(shape) - start), generator)
                stream.write((values.view("<u4") >> 16).astype("<u2").data if dtype == "BF16" else values.data)


def _numbers(name: str, count: int, generator: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = generator.standard_normal(count, dtype=np.float32)
    values *= 0.002 if ".lora_B." in name else _DEVIATION
    if name.endswith("norm.weight"):
        values += 1
    return values


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
