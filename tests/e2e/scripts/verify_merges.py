"""Runs in the trainer image: merges tiny random models and lets the verification judge them, damaged ones as well.

Prints one JSON document on the last line: under "good" what was measured of each right merge, or why it was refused;
under "damaged", by dtype, why each damaged one was refused, or "ok".
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen3Config, Qwen3MoeConfig

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import beside, bits, layers, planning, streaming, tensor_names, verification
from qwensft_trainer.merging.plan import Plan
from qwensft_trainer.merging.reference import TORCH_DTYPES

QUERY, OTHER = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1))
OUTPUT = QUERY.replace("q_proj", "o_proj")
NORM, INDEX = "model.norm.weight", "model.safetensors.index.json"
SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "r": 3},
    "embeddings": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "input embeddings": {"modules_to_save": ["embed_tokens"]},
}
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A base and what was trained on it."""

    base: Path
    trained: Path
    lora: bool = True
    dtype: str | None = None

    @property
    def plan(self) -> Plan:
        return planning.plan(self.base, self.trained, lora=self.lora, dtype=self.dtype, shard_bytes=None)


def make_base(directory: Path, config: Any, dtype: torch.dtype) -> Path:
    """A random model in several files, with a tokenizer of bytes."""
    torch.manual_seed(0)
    model = tensor_names.model_class(config).from_config(config).to(dtype)
    model.save_pretrained(directory, max_shard_size="50KB")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>").save_pretrained(directory)  # noqa: S106
    return directory


def load(base: Path) -> Any:
    config = layers.config_of(base, trust=False)
    return tensor_names.model_class(config).from_pretrained(base, dtype="auto")


def make_adapter(base: Path, directory: Path, *, seed: int = 1, **options: Any) -> Path:
    """An adapter as large as one that has learnt something."""
    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR} | options
    model = get_peft_model(load(base), LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape))
            elif ".modules_to_save." in name or ".lora_magnitude" in name:
                parameter.mul_(1 + 0.05 * torch.randn(parameter.shape))
    model.save_pretrained(directory)
    return directory


def make_checkpoint(base: Path, directory: Path) -> Path:
    """What full tuning leaves."""
    torch.manual_seed(1)
    model = load(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape))
    model.save_pretrained(directory)
    return directory


def merge(case: Case, directory: Path) -> Path:
    """As the stage does it."""
    plan = case.plan
    directory.mkdir(parents=True)
    streaming.write(plan, directory, digest="1")
    index = planning.index_of(plan, files.read_json_object(case.base / INDEX))
    if index is not None:
        (directory / INDEX).write_text(json.dumps(index))
    changed = beside.Changed(case.dtype, plan.untied, plan.rows, template="qwen3", thinking=True, tokenizer=None)
    beside.write(case.base, directory, changed)
    return directory


def judge(case: Case, merged: Path, *, level: str = "full") -> dict[str, Any] | str:
    """What verification has found, or why it refuses."""
    plan = case.plan
    try:
        return verification.verify(
            case.base,
            case.trained,
            merged,
            lora=case.lora,
            dtype=case.dtype,
            untied=plan.untied,
            rows=plan.rows,
            level="full" if level == "full" else "tensors",
            data=merged / "no data",
            trust=False,
        )
    except PermanentError as error:
        return f"{error.reason}: {error.message.removeprefix('The merged model was not published: ')}"


def cut_checkpoint(case: Case, directory: Path) -> dict[str, Any] | str:
    """A checkpoint that lacks a tensor, merged as if that had not been trained."""
    shutil.copytree(case.trained, directory)
    (path,) = (path for path in directory.glob("*.safetensors") if QUERY in load_file(path))
    tensors = load_file(path)
    del tensors[QUERY]
    save_file(tensors, path)
    cut = replace(case, trained=directory)
    return judge(cut, merge(cut, directory / "merged"), level="tensors")


def stored(directory: Path) -> Tensors:
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


def damaged(merged: Path, damage: Callable[[Tensors], object]) -> Path:
    """A copy in one file, whose tensors `damage` has changed in place."""
    copy = merged.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(merged, copy, ignore=shutil.ignore_patterns("*.safetensors", INDEX))
    tensors = stored(merged)
    damage(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, copy / "model.safetensors")
    return copy


def edited(merged: Path, name: str, edit: Callable[[str], str]) -> Path:
    """A copy in which the text of one file is another."""
    copy = merged.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(merged, copy)
    text = (copy / name).read_text()
    (copy / name).write_text(edit(text))
    assert (copy / name).read_text() != text
    return copy


def lower_bit(tensor: torch.Tensor) -> torch.Tensor:
    kind = torch.int32 if tensor.dtype is torch.float32 else torch.int16
    changed = tensor.clone()
    changed.view(kind)[0] ^= 1
    return changed


def rounded_otherwise(case: Case, dtype: torch.dtype) -> torch.Tensor:
    """bf16 and fp16 by cutting the bits that have no room, fp32 by way of bf16."""
    module = f"base_model.model.{QUERY.removesuffix('.weight')}"
    adapter = load_file(case.trained / "adapter_model.safetensors")
    change = adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]
    exact = stored(case.base)[QUERY].float() + 2 * change
    if dtype is torch.float32:
        return exact.bfloat16().float()
    cut = exact.to(dtype)
    beyond = cut.float().abs() > exact.abs()
    return torch.where(beyond, (cut.view(torch.int16) - 1).view(dtype), cut)


def swapped_letters(text: str) -> str:
    tokenizer = json.loads(text)
    numbers = tokenizer["model"]["vocab"]
    numbers["a"], numbers["b"] = numbers["b"], numbers["a"]
    return json.dumps(tokenizer)


def wrong_index(text: str) -> str:
    index = json.loads(text)
    places = index["weight_map"]
    places[QUERY] = next(place for place in places.values() if place != places[QUERY])
    return json.dumps(index)


def other_names(model: Any, names_in: Callable[[Any], Callable[[str], str]] = tensor_names.names_in) -> Any:
    """Planning and checking take one tensor for another of the same layer and shape."""
    name_of = names_in(model)
    mistaken = {QUERY: OUTPUT, OUTPUT: QUERY}
    return lambda key: mistaken.get(name_of(key), name_of(key))


def damages(case: Case, other: Case, merged: Path, dtype: torch.dtype) -> dict[str, dict[str, Any] | str]:
    """By the damage, what verification says of it."""
    before, after = stored(case.base), stored(merged)
    added = after[QUERY].float() - before[QUERY].float()
    second_half = {name: tensor for name, tensor in before.items() if name.startswith("model.layers.1.")}
    other_type = torch.float32 if dtype is torch.float16 else torch.float16
    faults: dict[str, Callable[[Tensors], object]] = {
        "scale": lambda t: t.update({QUERY: (before[QUERY].float() + 1.05 * added).to(dtype)}),
        "transposed": lambda t: t.update({QUERY: t[QUERY].T}),
        "half of the layers": lambda t: t.update(second_half),
        "stale": lambda t: t.update({QUERY: before[QUERY]}),
        "all stale": lambda t: t.update(before),
        "extra": lambda t: t.update({"model.extra.weight": t[NORM].clone()}),
        "missing": lambda t: t.pop(QUERY),
        "swapped": lambda t: t.update({QUERY: after[OTHER], OTHER: after[QUERY]}),
        "not a number": lambda t: t[QUERY].view(-1)[:1].fill_(float("nan")),
        "untouched not a number": lambda t: t[NORM][:1].fill_(float("nan")),
        "infinite": lambda t: t[QUERY].view(-1)[:1].fill_(float("inf")),
        "other dtype": lambda t: t.update({QUERY: t[QUERY].to(other_type)}),
        "rounded otherwise": lambda t: t.update({QUERY: rounded_otherwise(case, dtype)}),
        "untouched by one bit": lambda t: t.update({NORM: lower_bit(t[NORM])}),
    }
    found = {name: judge(case, damaged(merged, fault), level="tensors") for name, fault in faults.items()}
    found["index"] = judge(case, edited(merged, INDEX, wrong_index), level="tensors")
    found["other run"] = judge(other, merged, level="tensors")
    found["rope"] = judge(case, edited(merged, "config.json", lambda text: text.replace("10000.0", "20000.0")))
    found["tokenizer"] = judge(case, edited(merged, "tokenizer.json", swapped_letters))
    with mock.patch.object(tensor_names, "names_in", other_names):
        found["names"] = judge(case, merge(case, merged.with_name("other names")))
    return found


def _level(name: str, variant: str) -> str:
    """The logits of each variant once, and of each dtype once."""
    return "full" if name == "bf16" or variant == "lora" else "tensors"


def in_dtype(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    dtype = TORCH_DTYPES[name]
    base = make_base(root / "base", Qwen3Config(**SIZES), dtype)
    cases = {
        variant: Case(base, make_adapter(base, root / variant, **options)) for variant, options in VARIANTS.items()
    }
    cases["full"] = Case(base, make_checkpoint(base, root / "full"), lora=False)
    cases |= {f"lora as {other}": replace(cases["lora"], dtype=other) for other in TORCH_DTYPES if other != name}
    good = {
        f"{name} {variant}": judge(case, merge(case, root / "merged" / variant), level=_level(name, variant))
        for variant, case in cases.items()
    }
    other = Case(base, make_adapter(base, root / "other", seed=2))
    found = damages(cases["lora"], other, root / "merged" / "lora", dtype)
    return good, found | {"checkpoint without": cut_checkpoint(cases["full"], root / "cut")}


def other_models(root: Path) -> dict[str, Any]:
    """Deep ones, a mixture of experts whose attention is trained, and one that sees, whose tensors alone are judged."""
    deep = Qwen3Config(**SIZES | {"num_hidden_layers": 36, "initializer_range": 0.1})
    experts = Qwen3MoeConfig(**SIZES, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32)
    text = {key: value for key, value in SIZES.items() if key not in ("head_dim", "tie_word_embeddings")}
    sizes = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    sees = Qwen2_5_VLConfig(text_config=text | {"rope_parameters": rope}, vision_config=sizes)
    found: dict[str, Any] = {}
    for name, config, targets, dora, level in (
        ("deep lora", deep, LINEAR, False, "full"),
        ("deep dora", deep, LINEAR, True, "full"),
        ("experts", experts, ["q_proj", "o_proj"], False, "full"),
        ("sees", sees, ["q_proj", "gate_proj"], False, "tensors"),
    ):
        base = make_base(root / name / "base", config, torch.bfloat16)
        case = Case(base, make_adapter(base, root / name / "trained", target_modules=targets, use_dora=dora))
        merged = merge(case, root / name / "merged")
        found[name] = judged = judge(case, merged, level=level)
        if isinstance(judged, dict):
            judged["numbers"] = sum(tensor.numel() for tensor in stored(merged).values())
    return found


def main() -> None:
    bits.PIECE = 1000  # so that tiny tensors, too, are compared in several pieces
    good: dict[str, Any] = {}
    bad: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in TORCH_DTYPES:
            found, bad[name] = in_dtype(Path(directory) / name, name)
            good |= found
        good |= other_models(Path(directory))
    sys.stdout.write(json.dumps({"good": good, "damaged": bad}) + "\n")


if __name__ == "__main__":
    main()
