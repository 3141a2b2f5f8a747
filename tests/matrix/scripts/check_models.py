"""Runs in the trainer image: looks at what the matrix's runs left behind, with plain transformers and peft.

Gets one JSON list as argument: objects with name, base, run, merged, and adapter or model (directories). Prints one
JSON object on the last line, with an entry for each name. Nothing of this repository is imported.
"""

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

PROMPTS = ("How long is the warranty on the frame?", "Who may approve a refund?", "Pump both tyres to 4 bar.")
CHAT = [{"role": "user", "content": "How long is the warranty?"}]
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>Which colour is this frame?"


def is_vision(directory: Path) -> bool:
    return hasattr(AutoConfig.from_pretrained(directory), "vision_config")


def load(directory: Path) -> Any:
    kind = AutoModelForImageTextToText if is_vision(directory) else AutoModelForCausalLM
    # transformers would multiply experts by an operator that torch 2.8 has for GPUs only.
    experts = (
        {"experts_implementation": "eager"} if hasattr(AutoConfig.from_pretrained(directory), "num_experts") else {}
    )
    return kind.from_pretrained(directory, dtype=torch.float32, **experts).eval()


def inputs(directory: Path) -> list[dict[str, torch.Tensor]]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts = [dict(tokenizer(prompt, return_tensors="pt")) for prompt in PROMPTS]
    if not is_vision(directory):
        return texts
    processor = AutoProcessor.from_pretrained(directory)
    picture = Image.new("RGB", (56, 56), "red")
    return [*texts, dict(processor(text=[PICTURE], images=[picture], return_tensors="pt"))]


def logits(model: torch.nn.Module, prompts: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """All logits of all prompts, one after the other."""
    with torch.no_grad():
        return torch.cat([model(**prompt).logits[0].float() for prompt in prompts])


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference relative to the norm of the first, over the part of the vocabulary they share."""
    words = min(one.shape[-1], other.shape[-1])
    one, other = one[:, :words], other[:, :words]
    return float((one - other).norm() / one.norm())


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    """All tensors by name, without the prefixes that transformers has given to vision models in turn."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                found[name.removeprefix("model.").removeprefix("language_model.")] = file.get_tensor(name)
    return found


def differing(base: Path, merged: Path) -> dict[str, list[str]]:
    """Names of the tensors that only one of the models has, and of those that are not equal bit by bit."""
    before, after = tensors(base), tensors(merged)
    if "lm_head.weight" not in after and AutoConfig.from_pretrained(merged).tie_word_embeddings:
        before.pop("lm_head.weight", None)  # a second copy of the input embeddings, which readers do not need
    return {
        "missing": sorted(set(before) - set(after)),
        "extra": sorted(set(after) - set(before)),
        "changed": sorted(name for name in set(before) & set(after) if not torch.equal(before[name], after[name])),
        "same": sorted(name for name in set(before) & set(after) if torch.equal(before[name], after[name])),
    }


def unsaid(base: Path, merged: Path) -> list[str]:
    """Files beside the weights that are not the base's, though the record of the merge does not name them."""
    record = json.loads((merged.parent / "merge.json").read_text())
    told = {line.partition(":")[0] for line in record["differs"]} | {"qwensft-manifest.json"}
    beside = [path for path in merged.iterdir() if path.suffix != ".safetensors" and path.name not in told]
    return sorted(
        path.name
        for path in beside
        if not (base / path.name).is_file() or path.read_bytes() != (base / path.name).read_bytes()
    )


def engines(one: Path, other: Path) -> dict[str, Any]:
    """How far the results of the two engines are apart: files, and the largest difference relative to a tensor's."""
    before, after = tensors(one), tensors(other)
    furthest = {
        name: float((tensor.float() - after[name].float()).abs().max() / tensor.float().abs().max().clamp_min(1e-30))
        for name, tensor in before.items()
        if name in after and after[name].shape == tensor.shape
    }
    names = [sorted(path.name for path in directory.iterdir()) for directory in (one, other)]
    return {
        "files": names[0] == names[1],
        "engine": json.loads((other.parent / "merge.json").read_text())["engine"],
        "tensors": sorted(set(before) ^ set(furthest) | set(after) ^ set(furthest)),
        "furthest": max(furthest.values()),
    }


def look_at(job: dict[str, str]) -> dict[str, Any]:
    base, merged = Path(job["base"]), Path(job["merged"])
    tokenizer = AutoTokenizer.from_pretrained(merged)
    prompts = inputs(merged)
    merged_model = load(merged)
    words = merged_model.get_input_embeddings().num_embeddings
    merged_logits = logits(merged_model, prompts)
    del merged_model
    base_model = load(base)
    base_logits = logits(base_model, prompts)
    found: dict[str, Any] = {
        "base_dtype": str(AutoConfig.from_pretrained(base).dtype),
        "base_to_merged": difference(base_logits, merged_logits),
        "tensors": differing(base, merged),
        "chat": tokenizer.apply_chat_template(CHAT, tokenize=False)
        == AutoTokenizer.from_pretrained(base).apply_chat_template(CHAT, tokenize=False),
        "tokens": {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in json.loads(job["tokens"])},
        "files": sorted(str(path) for path in (Path(job["run"]) / "train").rglob("*") if path.is_file()),
        "prepared": json.loads((Path(job["run"]) / "prepare.json").read_text()),
    }
    if job["again"]:
        found["engines"] = engines(merged, Path(job["again"]))
    else:
        found["unsaid"] = unsaid(base, merged)
    if "adapter" in job:
        if base_model.get_input_embeddings().num_embeddings != words:
            base_model.resize_token_embeddings(words)
        trained = PeftModel.from_pretrained(base_model, job["adapter"]).eval()
        found["adapter"] = json.loads((Path(job["adapter"]) / "adapter_config.json").read_text())
    else:
        del base_model
        trained = load(Path(job["model"]))
    found["trained_to_merged"] = difference(logits(trained, prompts), merged_logits)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=json.loads)
    found = {}
    for job in parser.parse_args().jobs:
        found[job["name"]] = look_at(job)
        gc.collect()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
