"""Proves that a merged model is what it claims to be: base plus adapter, or the fully tuned weights, and nothing else.

Tensor checks read the safetensors files one tensor at a time; the logits check loads the reference and the merged model
one after the other. Every failure is MergeVerificationFailed and permanent: the merged files are not published.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from qwensft_trainer import files, model_source
from qwensft_trainer.environment import memory_limit
from qwensft_trainer.errors import PermanentError
from qwensft_trainer.log import log

TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# ||reference - merged|| / ||reference||: a 16-bit merge rounds every changed weight once, fp32 only reorders sums.
TOLERANCES = {"bf16": 2e-2, "fp16": 2e-2, "fp32": 1e-4}

_COMPARED_POSITIONS = 32
_MAX_PROMPT_TOKENS = 128
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_PREFIX = "base_model.model."
_OUTPUT_EMBEDDINGS = "lm_head.weight"


@dataclass(frozen=True)
class Comparison:
    """How far two models are apart: the largest relative error over the prompts, against the dtype's tolerance."""

    relative_error: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.relative_error <= self.tolerance  # False for NaN, too


def check_tensors(base: Path, merged: Path, *, dtype: str, adapter: Path | None) -> dict[str, int]:
    """Compare the merged model's tensors with the base's: names, shapes, dtype, finiteness, and what changed.

    With an adapter, what it does not touch must be bit-identical to the base (converted to `dtype`) and something it
    touches must differ. Returns {"tensors", "changed"}. Raises PermanentError MergeVerificationFailed.
    """
    touched = None if adapter is None else touched_tensors(adapter)
    changed = seen = 0
    with _Tensors(base) as before, _Tensors(merged) as after:
        absent = sorted(before.names - after.names - _optional(merged))
        if absent:
            raise _failed(f"{len(absent)} tensors of the base are missing, e.g. {', '.join(absent[:3])}")
        for name in sorted(after.names):
            tensor = after.get(name)
            _check_one(name, tensor, dtype)
            seen += 1
            if name not in before.names:
                continue
            original = before.get(name)
            if tensor.shape != original.shape and not (touched is None or name in touched):
                raise _failed(f"{name} has shape {list(tensor.shape)}, the base has {list(original.shape)}")
            differs = tensor.shape != original.shape or not torch.equal(tensor, original.to(tensor.dtype))
            if differs and touched is not None and name not in touched:
                raise _failed(f"{name} differs from the base although the adapter does not touch it")
            changed += differs
    if touched and not changed:
        raise _failed(
            "no tensor differs from the base: the merge did nothing. Either the adapter is all zero, or its change is "
            "below the precision of the merged dtype (then train longer, or set spec.merge.dtype to fp32)"
        )
    return {"tensors": seen, "changed": changed}


def touched_tensors(adapter: Path) -> set[str]:
    """Names of the base's tensors that a peft adapter changes."""
    header, _ = model_source.read_header(adapter / _ADAPTER_WEIGHTS)
    names = set()
    for key in header:
        module = key.removeprefix(_ADAPTER_PREFIX)
        stem, found, _ = module.partition(".lora_")
        names.add(f"{stem}.weight" if found else module)
    return names


def reference_logits(
    base: Path, tuned: Path, prompts: Sequence[Sequence[int]], *, dtype: str, lora: bool, trust: bool
) -> list[torch.Tensor]:
    """Logits of what the merged model must equal: base with the peft adapter in `tuned`, or the tuned model itself."""
    model = _load(base if lora else tuned, dtype, trust)
    if lora:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(tuned))
    return _logits(model, prompts)


def model_logits(directory: Path, prompts: Sequence[Sequence[int]], *, dtype: str, trust: bool) -> list[torch.Tensor]:
    """Logits of a model directory, float32, [positions, vocabulary] for the last positions of each prompt."""
    return _logits(_load(directory, dtype, trust), prompts)


def compare(reference: Sequence[torch.Tensor], merged: Sequence[torch.Tensor], *, dtype: str) -> Comparison:
    """The largest relative error over all prompts. A different vocabulary size counts as infinitely far apart."""
    errors = [
        float((one - other).norm() / one.norm().clamp_min(1e-30)) if one.shape == other.shape else float("inf")
        for one, other in zip(reference, merged, strict=True)
    ]
    worst = max(errors, key=lambda error: (math.isnan(error), error))
    return Comparison(worst, TOLERANCES[dtype])


def require_agreement(comparison: Comparison) -> None:
    """Raise PermanentError MergeVerificationFailed unless the logits agree."""
    if not comparison.agrees:
        raise _failed(
            f"its logits are {comparison.relative_error:.2g} (relative) away from those of the trained model; at most "
            f"{comparison.tolerance:g} is explained by rounding"
        )


def sample_prompts(tokenizer: Any, data_directory: Path, *, count: int = 4) -> list[list[int]]:
    """Token ids of the first conversations of each dataset, where an adapter shows most, and of a fixed sentence."""
    prompts = [tokenizer("The quick brown fox jumps over the lazy dog.")["input_ids"]]
    for path in sorted(data_directory.glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            line = next(stream, None)
        if line is not None and len(prompts) < count:
            prompts.append(_render(tokenizer, line))
    return [prompt[:_MAX_PROMPT_TOKENS] for prompt in prompts]


def _render(tokenizer: Any, line: str) -> list[int]:
    messages = json.loads(line)["messages"]
    text = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return list(tokenizer(text)["input_ids"])


def _check_one(name: str, tensor: torch.Tensor, dtype: str) -> None:
    if not tensor.is_floating_point():
        return
    if tensor.dtype is not TORCH_DTYPES[dtype]:
        raise _failed(f"{name} is {tensor.dtype}, expected {TORCH_DTYPES[dtype]}")
    if not bool(torch.isfinite(tensor).all()):
        raise _failed(f"{name} holds NaN or infinite values: training diverged; lower spec.training.learningRate")


def _optional(directory: Path) -> set[str]:
    config = files.read_json_object(directory / "config.json") or {}
    return {_OUTPUT_EMBEDDINGS} if config.get("tie_word_embeddings") else set()


def _load(directory: Path, dtype: str, trust: bool) -> Any:
    from transformers import AutoModelForCausalLM

    cuda = torch.cuda.is_available()
    # Many CPUs compute bf16 thirty times slower than float32, so float32 is used where it fits; the weights keep the
    # values they were rounded to, which is all that is compared.
    size = sum((directory / name).stat().st_size for name in model_source.weight_files(directory))
    roomy = not cuda and (2 if dtype != "fp32" else 1) * size * 1.3 < memory_limit()
    return AutoModelForCausalLM.from_pretrained(
        str(directory),
        dtype=torch.float32 if roomy else TORCH_DTYPES[dtype],
        device_map="auto" if cuda else None,
        trust_remote_code=trust,
        attn_implementation="eager",
    )


def _logits(model: Any, prompts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Consumes the model: its memory is given back before the next one is loaded."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = [
            model(input_ids=torch.tensor([prompt], device=device)).logits[0, -_COMPARED_POSITIONS:].float().cpu()
            for prompt in prompts
        ]
    del model
    gc.collect()
    return found


def _failed(what: str) -> PermanentError:
    log(f"verification failed: {what}")
    return PermanentError("MergeVerificationFailed", f"The merged model was not published: {what}.")


class _Tensors:
    """All tensors of a model directory, read one at a time from its open shards."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._where: dict[str, Any] = {}

    @property
    def names(self) -> set[str]:
        return set(self._where)

    def __enter__(self) -> _Tensors:
        for name in model_source.weight_files(self._directory):
            path = self._directory / name
            if not path.is_file():
                raise _failed(f"{name} is missing")
            shard = self._stack.enter_context(safe_open(str(path), framework="pt"))
            self._where.update(dict.fromkeys(shard.keys(), shard))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def get(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._where[name].get_tensor(name)
        return tensor
