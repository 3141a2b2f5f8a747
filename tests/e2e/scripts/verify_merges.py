"""Runs in the trainer image: lets qwensft_trainer.merging.verification judge good merges and merges damaged on purpose.

A tiny random Qwen3 with a random adapter, no tokenizer. Prints one JSON document on the last line: what each case came
to ("ok", or the beginning of the refusal), and the relative errors measured.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import verification

PROMPTS = [{"input_ids": torch.tensor([ids])} for ids in ([1, 2, 3, 4, 5], list(range(10, 40)))]
QUERY = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"
Tensors = dict[str, torch.Tensor]


def make_models(root: Path, dtype: torch.dtype) -> tuple[Path, Path, Path]:
    """Write a base, an adapter that matters, and their merge by peft."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    base, adapter, merged = root / "base", root / "adapter", root / "merged"
    Qwen3ForCausalLM(config).to(dtype).save_pretrained(base)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(Qwen3ForCausalLM.from_pretrained(base, dtype=dtype), lora).save_pretrained(adapter)
    model = PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base, dtype=dtype), adapter)
    model.merge_and_unload().save_pretrained(merged)
    return base, adapter, merged


def verdict(check: Callable[[], object]) -> str:
    try:
        check()
    except PermanentError as error:
        return f"{error.reason}: {error.message.removeprefix('The merged model was not published: ')[:60]}"
    return "ok"


def damaged(merged: Path, damage: Callable[[Tensors], object]) -> Path:
    """Return a copy of the merged model whose tensors `damage` has changed in place."""
    copy = merged.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(merged, copy)
    tensors = load_file(copy / "model.safetensors")
    damage(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def judge(name: str, dtype: torch.dtype) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory:
        base, adapter, merged = make_models(Path(directory), dtype)

        def tensors(candidate: Path) -> str:
            return verdict(lambda: verification.check_tensors(base, candidate, dtype=name, adapter=adapter))

        def logits(candidate: Path) -> verification.Comparison:
            found = verification.model_logits(candidate, PROMPTS, dtype=name, trust=False)
            return verification.compare(reference, found, dtype=name)

        reference = verification.reference_logits(base, adapter, PROMPTS, dtype=name, lora=True, trust=False)
        good, no_op = logits(merged), logits(base)
        before = load_file(base / "model.safetensors")[QUERY]
        twice = logits(damaged(merged, lambda t: t.update({QUERY: 2 * t[QUERY] - before})))
        return {
            "good tensors": tensors(merged),
            "good logits": verdict(lambda: verification.require_agreement(good)),
            "no-op tensors": tensors(base),
            "no-op logits": verdict(lambda: verification.require_agreement(no_op)),
            "merged twice": verdict(lambda: verification.require_agreement(twice)),
            "missing tensor": tensors(damaged(merged, lambda t: t.pop(QUERY))),
            "not a number": tensors(damaged(merged, lambda t: t[QUERY].view(-1)[:1].fill_(float("nan")))),
            "other dtype": tensors(damaged(merged, lambda t: t.update({QUERY: t[QUERY].to(torch.float64)}))),
            "untouched changed": tensors(damaged(merged, lambda t: t[NORM].mul_(2))),
            "errors": [good.relative_error, no_op.relative_error, good.tolerance],
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: judge(name, dtype) for name, dtype in verification.TORCH_DTYPES.items()}) + "\n")
