"""The JSON documents of a model directory: readable, and of the types that are computed with, before anything does.

They come from hubs and volumes. What transformers makes of them is its own business, and told when it loads the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import invalid_model

LARGEST = 64 << 20  # bytes; the longest vocabularies have 20 MiB

# Those that are read here. Each is optional but for the first.
_READ = (
    "config.json",
    *("model.safetensors.index.json", "generation_config.json", "tokenizer_config.json", "chat_template.json"),
)
_TEXTS = (".json", ".jinja", ".txt", ".model")
_OBJECTS = ("text_config", "vision_config", "quantization_config", "rope_scaling", "rope_parameters")
_COUNTS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
    *("intermediate_size", "moe_intermediate_size", "num_experts", "num_local_experts", "max_position_embeddings"),
    *("original_max_position_embeddings", "bits", "w_bit"),
)
_NUMBERS = ("factor",)
_MOST = 1 << 40


def check(directory: Path, advice: str) -> None:
    """Raises PermanentError InvalidModel that names the file, and in config.json the field, followed by `advice`."""
    for path in sorted(directory.iterdir()):
        if path.suffix in _TEXTS and path.is_file() and (size := path.stat().st_size) > LARGEST:
            raise invalid_model(f"{path} has {size >> 20} MiB; at most {LARGEST >> 20} are read of it. {advice}")
    documents = {name: files.read_json_object(directory / name) for name in _READ}
    for name, document in documents.items():
        if document is None and (directory / name).exists():
            raise invalid_model(f"{directory / name} holds no JSON object: it is damaged, or another file. {advice}")
    if problem := next(_problems(documents["config.json"] or {}, ""), None):
        raise invalid_model(f"{directory / 'config.json'} says {problem}. {advice}")


def _problems(config: dict[str, Any], place: str) -> Iterator[str]:
    """What has another type than transformers writes; what is missing or null has none."""
    for name, value in config.items():
        if value is None:
            continue
        if name in _OBJECTS:
            if isinstance(value, dict):
                yield from _problems(value, f"{place}{name}.")
            else:
                yield f"{place}{name} is {value!r:.50}, and no object"
        elif name in _COUNTS and not (_is_whole(value) and 0 <= value < _MOST):
            yield f"{place}{name} is {value!r:.50}, and no count"
        elif name in _NUMBERS and not (type(value) in (int, float) and 0 < value < _MOST):
            yield f"{place}{name} is {value!r:.50}, and no number above 0"


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number, also when it is written as 32768.0."""
    return type(value) is int or (type(value) is float and value.is_integer())
