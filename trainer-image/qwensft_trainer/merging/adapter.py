"""What a peft adapter changes: for each parameter of the base what is added to it, or the tensor that replaces it.

Read from its two files alone. What peft can do and this cannot is told, so that LLaMA-Factory's export does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging.plan import LowRank
from qwensft_trainer.merging.weights import FLOATS, File, Tensor

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_LARGEST_ALPHA = 1e9
_OF_PEFT = "base_model.model."
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
# Beside embeddings that have grown, peft 0.18.1 saves them once more, and what they were before the training.
_COPIES = (".modules_to_save.weight", ".original_module.weight")

# Settings of LoRA that change what is added, with the value at which they do not.
_PLAIN: dict[str, Any] = {
    **dict.fromkeys(("fan_in_fan_out", "lora_bias", "use_qalora"), False),
    "rank_pattern": {},
    "alpha_pattern": {},
    **dict.fromkeys(("target_parameters", "trainable_token_indices", "layer_replication"), None),
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "corda_config", "eva_config", "megatron_config"), None),
    "bias": "none",
}


class UnknownError(Exception):
    """The streaming engine does not know how to merge this; LLaMA-Factory's may. The text says what it is."""


Changes = dict[str, LowRank | Tensor]


def changes(directory: Path) -> Changes:
    """{parameter as transformers names it: what is added, or its new tensor}.

    Raises UnknownError, and PermanentError MergeFailed for files that no training writes.
    """
    config = _config(directory / CONFIG)
    tensors = _tensors(directory / WEIGHTS)
    found: Changes = {}
    for name, tensor in tensors.items():
        if name.endswith(_A):
            module = name.removesuffix(_A)
            found[f"{module}.weight"] = _low_rank(module, tensors, config)
        elif ".lora_" not in name and not name.endswith(_COPIES):
            found[name] = tensor
        elif not name.endswith((_B, _MAGNITUDE, *_COPIES)):
            raise UnknownError(f"an adapter with {name.rpartition('.lora_')[2]!r} of lora_")
    return found


def damaged(path: Path, why: str) -> PermanentError:
    """The error for a result of the training that is none any more."""
    return PermanentError(
        "MergeFailed",
        f"{path} is not what a training writes ({why}): it was damaged or changed on the volume. Create the job again, "
        "with another spec.storage.path, to train anew.",
    )


def _config(path: Path) -> dict[str, Any]:
    config = files.read_json_object(path)
    if config is None:
        raise damaged(path, "it holds no JSON object")
    if config.get("peft_type") != "LORA":
        raise UnknownError(f"an adapter of type {config.get('peft_type')}")
    for key, plain in _PLAIN.items():
        if config.get(key) not in (None, plain):
            raise UnknownError(f"an adapter with {key}")
    if str(config.get("init_lora_weights")).startswith(("pissa", "olora", "loftq", "corda")):
        raise UnknownError(f"an adapter of a base that init_lora_weights: {config['init_lora_weights']} has changed")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise damaged(path, f"r is {rank!r:.50}, and no rank")
    if not (isinstance(alpha, int | float) and type(alpha) is not bool and abs(alpha) < _LARGEST_ALPHA):
        raise damaged(path, f"lora_alpha is {alpha!r:.50}, and no number")
    return config


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = {tensor.name.removeprefix(_OF_PEFT): tensor for tensor in File.read(path).tensors}
    except (ValueError, FileNotFoundError, IsADirectoryError) as error:
        raise damaged(path, str(error)) from error
    if odd := next((tensor for tensor in tensors.values() if tensor.dtype not in FLOATS), None):
        raise UnknownError(f"an adapter of {odd.dtype}")
    return tensors


def _low_rank(module: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> LowRank:
    a, b = tensors[module + _A], tensors.get(module + _B)
    if b is None or len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or a.shape[0] != config["r"]:
        raise UnknownError(f"an adapter whose matrices of {module} do not fit each other")
    magnitude = tensors.get(module + _MAGNITUDE)
    if bool(config.get("use_dora")) != (magnitude is not None):
        raise UnknownError(f"an adapter of which {module} is DoRA and others are not")
    divisor = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    return LowRank(a=a, b=b, scale=config["lora_alpha"] / divisor, magnitude=magnitude)
