"""Proves that a merged model is what it claims to be: base plus adapter, or the fully tuned weights, and nothing else.

Tensor checks read the safetensors files one tensor at a time; the logits check loads the reference and the merged model
one after the other. Every failure is MergeVerificationFailed and permanent: the merged files are not published.
ADR 0014 says why.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import memory_limit
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Merge, Run
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import tensor_names
from qwensft_trainer.model import source as model_source

Prompt = Mapping[str, Any]  # the inputs of a model's forward, a batch of one

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


def verify(
    run: Run, merge: Merge, trained: Path, merged: Path, *, dtype: str, trust: bool, resized: bool
) -> dict[str, Any]:
    """Check the merged directory as `merge.verify` asks: the tensors, then the logits, too.

    Returns what was checked, for the record on the volume. Raises PermanentError MergeVerificationFailed.
    """
    base, lora = run.model.path, run.tuning.method == "lora"
    checks: dict[str, Any] = dict(
        check_tensors(base, merged, dtype=dtype, adapter=trained if lora else None, resized=resized, trust=trust)
    )
    log(f"verified {checks['tensors']} tensors, {checks['changed']} of them changed by training")
    if merge.verify == "tensors":
        return checks
    prompts = sample_prompts(merged, run.data_directory, trust=trust)
    reference = reference_logits(base, trained, prompts, dtype=dtype, lora=lora, trust=trust)
    comparison = compare(reference, model_logits(merged, prompts, dtype=dtype, trust=trust), dtype=dtype)
    require_agreement(comparison)
    log(f"verified logits on {len(prompts)} prompts: relative error {comparison.relative_error:.2g}")
    return checks | {
        "prompts": len(prompts),
        "relativeError": comparison.relative_error,
        "tolerance": comparison.tolerance,
    }


def check_tensors(
    base: Path, merged: Path, *, dtype: str, adapter: Path | None, resized: bool = False, trust: bool = False
) -> dict[str, int]:
    """Compare the merged model's tensors with the base's: names, shapes, dtype, finiteness, and what changed.

    With an adapter, what it does not touch must be bit-identical to the base (converted to `dtype`). Something must
    differ in any case. Only with `resized` (tokens were added) may the embeddings have more rows than the base's.
    Returns {"tensors", "changed"}. Raises PermanentError MergeVerificationFailed.
    """
    name_of = tensor_names.module_names(base, trust=trust)
    touched = None if adapter is None else touched_tensors(adapter)
    changed = 0
    with _Tensors(base, name_of) as before, _Tensors(merged, name_of) as after:
        absent = sorted(before.names - after.names - _optional(merged))
        if absent:
            raise _failed(f"{len(absent)} tensors of the base are missing, e.g. {', '.join(absent[:3])}")
        for name in sorted(after.names):
            tensor = after.get(name)
            _check_one(name, tensor, dtype)
            if name not in before.names:
                continue
            original = before.get(name)
            if tensor.shape != original.shape and not (resized and _is_embedding(name)):
                raise _failed(f"{name} has shape {list(tensor.shape)}, the base has {list(original.shape)}")
            differs = tensor.shape != original.shape or not torch.equal(tensor, original.to(tensor.dtype))
            if differs and touched is not None and name not in touched:
                raise _failed(f"{name} differs from the base although the adapter does not touch it")
            changed += differs
        seen = len(after.names)
    if not changed:
        raise _failed(
            "no tensor differs from the base: the merge did nothing. Either training changed nothing, or its change is "
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
    base: Path, tuned: Path, prompts: Sequence[Prompt], *, dtype: str, lora: bool, trust: bool
) -> list[torch.Tensor]:
    """Logits of what the merged model must equal: base with the peft adapter in `tuned`, or the tuned model itself."""
    model = _load(base if lora else tuned, dtype, trust)
    if lora:
        from peft import PeftModel

        _grow_vocabulary(model, tuned)
        model = PeftModel.from_pretrained(model, str(tuned))
    return _logits(model, prompts)


def model_logits(directory: Path, prompts: Sequence[Prompt], *, dtype: str, trust: bool) -> list[torch.Tensor]:
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


def sample_prompts(model: Path, data_directory: Path, *, trust: bool, count: int = 4) -> list[Prompt]:
    """What the models are asked: a fixed sentence, the first conversations of the datasets, and an image to a VL model.

    Each is a mapping of model inputs with a batch of one; an adapter shows most on the data it was trained on.
    """
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model), trust_remote_code=trust)
    texts = ["The quick brown fox jumps over the lazy dog."]
    texts += [text for path in sorted(data_directory.glob("*.parquet")) if (text := _first_conversation(path))]
    prompts: list[Prompt] = [
        {"input_ids": torch.tensor([tokenizer(text)["input_ids"][:_MAX_PROMPT_TOKENS]])} for text in texts[:count]
    ]
    if (
        image := getattr(AutoConfig.from_pretrained(str(model), trust_remote_code=trust), "image_token_id", None)
    ) is not None:
        prompts.append(_image_prompt(model, tokenizer.decode([image]), trust=trust))
    return prompts


def _first_conversation(path: Path) -> str | None:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as rows:
        first = next(rows.iter_batches(batch_size=1, columns=["messages"]), None)
    if first is None:
        return None
    text = "\n".join(f"{message['role']}: {message['content']}" for message in first.to_pylist()[0]["messages"])
    return re.sub("<(image|video)>", "", text)


def _image_prompt(model: Path, placeholder: str, *, trust: bool) -> Prompt:
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(model), trust_remote_code=trust)
    image = Image.linear_gradient("L").resize((112, 112)).convert("RGB")
    text = f"<|vision_start|>{placeholder}<|vision_end|>What is this?"
    return dict(processor(text=[text], images=[image], return_tensors="pt"))


def _grow_vocabulary(model: Any, adapter: Path) -> None:
    """Make room for the rows of added tokens, which the adapter holds; their first values do not matter."""
    header, _ = model_source.read_header(adapter / _ADAPTER_WEIGHTS)
    rows = [entry["shape"][0] for name, entry in header.items() if _is_embedding(name) and ".lora_" not in name]
    if rows and max(rows) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(rows))


def _is_embedding(name: str) -> bool:
    return name.endswith(("embed_tokens.weight", _OUTPUT_EMBEDDINGS))


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
    from transformers import AutoConfig

    cuda = torch.cuda.is_available()
    # Many CPUs compute bf16 thirty times slower than float32, so float32 is used where it fits; the weights keep the
    # values they were rounded to, which is all that is compared.
    size = sum((directory / name).stat().st_size for name in model_source.weight_files(directory))
    roomy = not cuda and (2 if dtype != "fp32" else 1) * size * 1.3 < memory_limit()
    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=trust)
    return tensor_names.model_class(config).from_pretrained(
        str(directory),
        dtype=torch.float32 if roomy else TORCH_DTYPES[dtype],
        device_map="auto" if cuda else None,
        trust_remote_code=trust,
        attn_implementation="eager",
    )


def _logits(model: Any, prompts: Sequence[Prompt]) -> list[torch.Tensor]:
    """Consumes the model: its memory is given back before the next one is loaded."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = [
            model(**{name: value.to(device) for name, value in prompt.items()})
            .logits[0, -_COMPARED_POSITIONS:]
            .float()
            .cpu()
            for prompt in prompts
        ]
    del model
    gc.collect()
    return found


def _failed(what: str) -> PermanentError:
    log(f"verification failed: {what}")
    return PermanentError("MergeVerificationFailed", f"The merged model was not published: {what}.")


class _Tensors:
    """All tensors of a model directory by their unique names, read one at a time from its open shards."""

    def __init__(self, directory: Path, name_of: Callable[[str], str]) -> None:
        self._directory = directory
        self._name_of = name_of
        self._stack = ExitStack()
        self._shards: dict[str, Any] = {}
        self._stored: dict[str, str] = {}

    @property
    def names(self) -> set[str]:
        return set(self._stored)

    def __enter__(self) -> _Tensors:
        for name in model_source.weight_files(self._directory):
            path = self._directory / name
            if not path.is_file():
                raise _failed(f"{name} is missing")
            shard = self._stack.enter_context(safe_open(str(path), framework="pt"))
            self._shards.update(dict.fromkeys(shard.keys(), shard))
        self._stored = tensor_names.unique(self._shards, self._name_of)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, name: str) -> torch.Tensor:
        stored = self._stored[name]
        tensor: torch.Tensor = self._shards[stored].get_tensor(stored)
        return tensor
