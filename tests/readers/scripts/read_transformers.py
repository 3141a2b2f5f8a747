"""Says how one release of transformers reads base and merged model of each case.

Usage: read_transformers.py DIRECTORY READER CASE... Leaves READER.json and READER.npz (the merged model's logits) in
each case's directory. Works in transformers 4 and 5.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]
import torch
import transformers
from corpus import (  # type: ignore[import-not-found]  # beside it in the pod
    ADDED_TEXTS,
    CONVERSATIONS,
    PROMPTS,
    TEXTS,
)
from prompts import POSITIONS, prompts  # type: ignore[import-not-found]  # beside it in the pod
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

GREEDY = 24
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")


def of_directory(directory: Path) -> dict[str, Any]:
    """What the files beside the weights say."""
    config, tokenizer = AutoConfig.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    text = config.get_text_config()
    return {
        "rope": {name: getattr(text, name, None) for name in _ROPE},
        "eos": {
            "config.json": getattr(config, "eos_token_id", None),
            "its text_config": text.eos_token_id,
            "generation_config.json": GenerationConfig.from_pretrained(directory).eos_token_id,
            "the tokenizer": [tokenizer.eos_token, tokenizer.eos_token_id],
        },
        "special": [tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token],
        "tokens": {text: tokenizer(text)["input_ids"] for text in (*TEXTS, *ADDED_TEXTS)},
        "decoded": {
            text: [tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=skip) for skip in (False, True)]
            for text in (*TEXTS, *ADDED_TEXTS)
        },
        "rendered": [
            tokenizer.apply_chat_template(conversation["messages"], tokenize=False, add_generation_prompt=prompt)
            for conversation in CONVERSATIONS
            for prompt in (False, True)
        ],
    }


def of_model(directory: Path, inputs: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Any]]:
    """What the weights become: which are missing or left, how positions turn, greedy answers; and logits."""
    model, loaded = model_class(directory).from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    rotary = {
        name: [module.inv_freq.tolist(), getattr(module, "attention_scaling", 1.0)]
        for name, module in model.named_modules()
        if hasattr(module, "inv_freq")
    }
    with torch.inference_mode():
        logits = [model(**one).logits[0, -POSITIONS:].float().numpy() for one in inputs]
        answers = [greedy(model, one["input_ids"]) for one in inputs[: len(PROMPTS)]]
    found = {
        "missing": sorted(loaded["missing_keys"]),
        "left": sorted(loaded["unexpected_keys"]),
        "mismatched": sorted(str(key) for key in loaded["mismatched_keys"]),
        "rotary": rotary,
        "answers": answers,
        "pixels": [digest(one["pixel_values"]) for one in inputs if "pixel_values" in one],
    }
    return found, logits


def greedy(model: Any, prompt: torch.Tensor) -> list[int]:
    """The likeliest token each time, whatever it is."""
    answer: list[int] = []
    given, cache = prompt, None
    for _ in range(GREEDY):
        found = model(input_ids=given, past_key_values=cache, use_cache=True)
        given, cache = found.logits[:, -1].argmax(-1, keepdim=True), found.past_key_values
        answer.append(int(given))
    return answer


def digest(values: torch.Tensor) -> str:
    """Of the numbers, to four places: releases resize and scale images in other orders."""
    return hashlib.sha256(np.round(values.float().numpy(), 4).tobytes()).hexdigest()


def changed(before: Any, after: Any) -> float:
    """How far training has moved the logits of the base's vocabulary, relatively."""
    return float(np.linalg.norm(after[:, : before.shape[1]] - before) / np.linalg.norm(before))


def model_class(directory: Path) -> Any:
    """The class that config.json names."""
    return getattr(transformers, json.loads((directory / "config.json").read_text())["architectures"][0])


def compute_experts_plainly() -> None:
    """transformers 5 computes experts by grouped_mm, which torch 2.8 has for CUDA only."""
    chosen = getattr(transformers.PreTrainedModel, "get_correct_experts_implementation", None)
    if chosen is not None:
        transformers.PreTrainedModel.get_correct_experts_implementation = lambda self, asked: chosen(
            self, asked or "eager"
        )


def main() -> None:
    """Read all cases."""
    directory, reader = Path(sys.argv[1]), sys.argv[2]
    compute_experts_plainly()
    for case in sys.argv[3:]:
        found: dict[str, Any] = {"version": transformers.__version__}
        logits: dict[str, list[Any]] = {}
        for which in ("base", "merged"):
            model = directory / case / which
            facts, logits[which] = of_model(model, prompts(model))
            found[which] = of_directory(model) | facts
        found["changed"] = min(changed(*pair) for pair in zip(logits["base"], logits["merged"], strict=True))
        (directory / case / f"{reader}.json").write_text(json.dumps(found))
        np.savez(directory / case / f"{reader}.npz", *logits["merged"])


if __name__ == "__main__":
    main()
