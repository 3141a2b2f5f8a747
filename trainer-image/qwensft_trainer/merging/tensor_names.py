"""How transformers sees a checkpoint: the class that holds it, and one name for a tensor, whatever its file calls it.

Published checkpoints name tensors as older releases of transformers did ("visual.blocks.0...", "model.layers.0..."),
an adapter names the modules of today's ("model.visual...", "model.language_model..."), a saved model is in between.
ADR 0092 says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qwensft_trainer.model import safetensors_header


def model_class(config: Any) -> Any:
    """The class LLaMA-Factory loads such a model with: a vision-language model is no causal language model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    vision = type(config) in AutoModelForImageTextToText._model_mapping.keys()  # noqa: SIM118  # lazy, no dict
    return AutoModelForImageTextToText if vision else AutoModelForCausalLM


def module_names(directory: Path, *, trust: bool) -> Callable[[str], str]:
    """A function from a name in a checkpoint of this model to the parameter that transformers loads it into.

    Several tensors may belong to one parameter: a MoE's experts.
    """
    return names_in(model_without_weights(directory, trust=trust))


def model_without_weights(directory: Path, *, trust: bool) -> Any:
    """The model of a configuration, without memory for its weights."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=trust)
    with torch.device("meta"):
        return model_class(config).from_config(config, trust_remote_code=trust)


def names_in(model: Any) -> Callable[[str], str]:
    """`module_names` of a model that there is."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    parameters = dict(model.state_dict())
    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    prefix = model.base_model_prefix

    def name_of(key: str) -> str:
        renamed, _ = rename_source_key(key, renamings, converters, prefix, parameters)
        if renamed not in parameters and key in parameters:
            renamed, _ = rename_source_key(key, [], [], prefix, parameters)
        return str(renamed)

    return name_of


def rows_of_embeddings(adapter: Path) -> int | None:
    """Rows of the embeddings that an adapter file brings along, None where it has none."""
    rows = [
        entry["shape"][0]
        for name, entry in safetensors_header.read(adapter).tensors.items()
        if name.endswith(("embed_tokens.weight", "lm_head.weight")) and ".lora_" not in name
    ]
    return max(rows, default=None)


def unique(names: Iterable[str], name_of: Callable[[str], str]) -> dict[str, str]:
    """{unique name: name in the file}. Tensors that share a parameter keep the names they have in the file."""
    named = {name: name_of(name) for name in names}
    shared = Counter(named.values())
    return {target if shared[target] == 1 else name: name for name, target in named.items()}
