"""PiSSA: adapters that start from the base's own principal parts, which are taken out of the base meanwhile.

A trained PiSSA adapter fits the residual of the base only. Here it becomes a plain LoRA adapter of the original base,
of twice the rank, and a resumed training gets the residual back that its checkpoint was trained on. The decomposition
is randomised and may turn out different on another kind of GPU, so the first attempt's is kept for the later ones.
ADR 0057 says why.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log

# Directories beside the adapter: as it was before the first step, and as it was trained.
INITIAL = "pissa_init"
TRAINED = "pissa_trained"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def save_initial(model: Any, path: Path) -> None:
    """Write the adapter as it is before the first step."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = {name: tensor for name, tensor in get_peft_model_state_dict(model).items() if ".lora_" in name}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary))
    temporary.replace(path)


def restore_residual(model: Any, initial: Path) -> None:
    """Replace the decomposition this process has made by the one in `initial`, in the adapter and in the base."""
    import torch
    from peft.tuners.lora import LoraLayer
    from safetensors.torch import load_file

    saved = load_file(str(initial))
    with torch.no_grad():
        for name, layer in model.named_modules():
            if not isinstance(layer, LoraLayer):
                continue
            (adapter,) = layer.active_adapters
            own = layer.get_delta_weight(adapter)
            for part in ("lora_A", "lora_B"):
                weight = getattr(layer, part)[adapter].weight
                weight.copy_(saved[f"{name}.{part}.weight"])
            base = layer.get_base_layer().weight
            base.copy_(base.float() + (own.float() - layer.get_delta_weight(adapter).float()))


def convert(directory: Path) -> None:
    """Make the adapter in `directory` one of the original base: W + BA - B0 A0 = W + [B, -B0] [A; A0].

    The trained one is kept in `pissa_trained`; may be repeated. peft's own conversion forgets the magnitudes of DoRA
    and the additional targets.
    """
    import torch
    from safetensors.torch import load_file, save_file

    trained = directory / TRAINED
    if not trained.is_dir():
        partial = directory / f".{TRAINED}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in (WEIGHTS, CONFIG):
            shutil.copyfile(directory / name, partial / name)
        partial.rename(trained)
    tensors, initial = load_file(str(trained / WEIGHTS)), load_file(str(directory / INITIAL / WEIGHTS))
    for name, tensor in tensors.items():
        if ".lora_A." in name:
            tensors[name] = torch.cat([tensor, initial[name].to(tensor.dtype)], dim=0)
        elif ".lora_B." in name:
            tensors[name] = torch.cat([tensor, -initial[name].to(tensor.dtype)], dim=1)
    config = json.loads((trained / CONFIG).read_text(encoding="utf-8"))
    # The factor before BA is alpha / r, or alpha / sqrt(r) with rsLoRA: it must stay what it was.
    config["lora_alpha"] *= 2**0.5 if config.get("use_rslora") else 2
    config |= {"r": 2 * config["r"], "init_lora_weights": True}
    temporary = directory / f".{WEIGHTS}.partial"
    save_file(tensors, str(temporary), metadata={"format": "pt"})
    temporary.replace(directory / WEIGHTS)
    files.write_json(directory / CONFIG, config)
    log(f"converted the PiSSA adapter to a LoRA adapter of rank {config['r']} of the original base")
