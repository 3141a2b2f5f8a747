"""Runs in the trainer image: compares the merged model with base + adapter, and with the base alone, by their logits.

Uses plain transformers and peft, nothing of this repository. Prints one JSON document on the last line.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ("How long is the warranty on the frame?", "Who may approve a refund?", "Pump both tyres to 4 bar.")


def logits(model: torch.nn.Module, tokenizer: AutoTokenizer) -> torch.Tensor:
    """All logits of all prompts, one after the other, in float32."""
    with torch.no_grad():
        parts = [model(**tokenizer(prompt, return_tensors="pt")).logits[0].float() for prompt in PROMPTS]
    return torch.cat(parts)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference relative to the norm of the first."""
    return float((one - other).norm() / one.norm())


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("base", "adapter", "merged"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.merged)
    merged_model = AutoModelForCausalLM.from_pretrained(options.merged, dtype=torch.float32).eval()
    base_model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32).eval()
    merged, base = logits(merged_model, tokenizer), logits(base_model, tokenizer)
    adapted = logits(PeftModel.from_pretrained(base_model, options.adapter).eval(), tokenizer)
    files = [path for path in options.merged.rglob("*") if path.is_file()]
    manifest = hashlib.sha256((options.merged / "qwensft-manifest.json").read_bytes()).hexdigest()
    found = {
        "adapter_to_merged": difference(adapted, merged),
        "base_to_merged": difference(base, merged),
        "merged_bytes": sum(path.stat().st_size for path in files),
        "merged_digest": f"sha256:{manifest}",
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
