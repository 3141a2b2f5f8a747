"""Proves that a merged model is what it claims to be: base plus adapter, or the fully tuned weights, and nothing else.

Every failure is MergeVerificationFailed and permanent: the merged files are not published. ADR 0093 says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from qwensft_trainer.base import upstream
from qwensft_trainer.base.log import log
from qwensft_trainer.merging import layers, tensors
from qwensft_trainer.merging.layers import Prompt, Weights
from qwensft_trainer.merging.reference import Reference, Tensors
from qwensft_trainer.merging.tensors import refused

TOLERANCE = 1e-4
"""‖reference - merged‖ / ‖reference‖ of the logits, for what processors may compute otherwise from run to run."""

_WITHOUT_EFFECT = ("_name_or_path", "dtype", "eos_token_id", "text_config.dtype", "text_config.eos_token_id")
"""Settings that change no logits: those of config.json that a merge may change, and where it was read."""

_MOST_PROMPT_TOKENS = 128
_PROMPTS = 4


def verify(
    base: Path,
    trained: Path,
    merged: Path,
    *,
    lora: bool,
    dtype: str | None,
    untied: bool,
    rows: int | None,
    level: Literal["full", "tensors"],
    data: Path,
    trust: bool,
) -> dict[str, Any]:
    """Check the merged directory: the tensors, then with `level` full what its other files make of them, too.

    Tokens must be those of the base's own tokenizer, and logits those of the base's configuration with the tensors that
    were computed independently. Those are rounded as the merged ones are where the order of sums decides a last place:
    it may send a token to another expert.

    `untied` and `rows` are what the merge's plan says of the embeddings; `data` holds the rows for prompts. Returns
    what was found, for the record on the volume. Raises PermanentError MergeVerificationFailed.
    """
    upstream.leave_bitsandbytes_out()
    with Reference(base, trained, lora=lora, dtype=dtype, untied=untied, trust=trust) as reference:
        compared = tensors.compare(reference, merged)
        checks: dict[str, Any] = {
            "tensors": compared.tensors,
            "changed": compared.changed,
            "oneUnitOff": compared.off,
        }
        if compared.kept is not None:
            checks["kept"] = round(compared.kept, 4)
        log(f"verified {compared.tensors} tensors, {compared.changed} of them changed by training")
        if level == "tensors":
            return checks
        prompts = _prompts(base, merged, data, trust=trust)
        config = _config(base, untied=untied, rows=rows, trust=trust)
        error = _error(config, reference, merged, prompts, trust=trust)
    if not error <= TOLERANCE:  # NaN, too
        raise refused(
            f"its logits are {error:.2g} (relative) away from those of base and training with the base's config.json, "
            f"of which {TOLERANCE:g} is explained by the order of sums; {_differing(config, merged, trust=trust)}"
        )
    log(f"verified logits on {len(prompts)} batches of prompts: relative error {error:.2g}")
    return checks | {"prompts": len(prompts), "relativeError": error, "tolerance": TOLERANCE}


def _config(base: Path, *, untied: bool, rows: int | None, trust: bool) -> Any:
    """The base's, with what training has changed about the embeddings."""
    config = layers.config_of(base, trust=trust)
    if untied:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    if rows is not None:
        config.get_text_config().vocab_size = rows
    return config


def _error(config: Any, reference: Reference, merged: Path, prompts: Sequence[Prompt], *, trust: bool) -> float:
    """The largest relative error over the prompts, with `config` for what must be computed."""
    upstream.compute_experts_without_cuda()
    with Tensors(merged) as found:
        wanted = layers.logits(config, reference.weights(found), prompts, trust=trust)
        own = Weights(found.names, found.get)
        given = layers.logits(layers.config_of(merged, trust=trust), own, prompts, trust=trust)
    errors = [
        float((one - other).norm() / one.norm().clamp_min(1e-30)) if one.shape == other.shape else math.inf
        for one, other in zip(wanted, given, strict=True)
    ]
    return max(errors, key=lambda error: (math.isnan(error), error))


def _differing(config: Any, merged: Path, *, trust: bool) -> str:
    """Which settings of config.json explain it, with their values."""
    wanted, given = _flat(config.to_dict()), _flat(layers.config_of(merged, trust=trust).to_dict())
    keys = [key for key in sorted(wanted.keys() | given.keys()) if wanted.get(key) != given.get(key)]
    told = [f"{key} is {given.get(key)!r}, not {wanted.get(key)!r}" for key in keys if key not in _WITHOUT_EFFECT]
    if not told:
        return "config.json says the same, so transformers loads a tensor elsewhere than its name was taken to mean"
    return "in config.json " + ", ".join(told[:3]) + (", ..." if len(told) > 3 else "")


def _flat(settings: Mapping[str, Any], outer: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{outer}{key}.") if isinstance(value, Mapping) else {f"{outer}{key}": value}
    return found


def _prompts(base: Path, merged: Path, data: Path, *, trust: bool) -> list[Prompt]:
    """What the models are asked: a fixed sentence and the first rows of the datasets; and an image to one that sees.

    Raises PermanentError when the merged model's tokenizer reads the texts otherwise than the base's.
    """
    from transformers import AutoTokenizer

    texts = ["The quick brown fox jumps over the lazy dog.<|im_end|>\n敏捷的狐狸 🦊"]
    read = {path.stem: text for path in sorted(data.glob("*.parquet")) if (text := _first_conversation(path))}
    sources = list(read)
    texts = [*texts, *read.values()][:_PROMPTS]
    before, tokenizer = (AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust) for path in (base, merged))
    known, vocabulary = before.get_vocab(), tokenizer.get_vocab()
    if moved := sorted(word for word, number in known.items() if vocabulary.get(word) != number):
        word = moved[0]
        raise refused(
            f"its tokenizer has another id for {word!r} than the base's: {vocabulary.get(word)}, not {known[word]}"
            f" (so for {len(moved)} tokens)"
        )
    added = vocabulary.keys() - known.keys()
    rows = [tokenizer(text)["input_ids"][:_MOST_PROMPT_TOKENS] for text in texts]
    for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
        wanted = before(text)["input_ids"][:_MOST_PROMPT_TOKENS]
        if not any(token in text for token in added) and row != wanted:
            which = f"the first row of the dataset {sources[number - 1]!r}" if number else "the fixed text"
            place = next((at for at, pair in enumerate(zip(row, wanted, strict=False)) if pair[0] != pair[1]), None)
            place = min(len(row), len(wanted)) if place is None else place
            raise refused(
                f"its tokenizer reads {which} otherwise than the base's: from token {place} on it is "
                f"{row[place : place + 3]}, not {wanted[place : place + 3]}"
            )
    prompts = [_batch(rows)]
    if (image := getattr(layers.config_of(merged, trust=trust), "image_token_id", None)) is not None:
        prompts.append(_image(merged, tokenizer.decode([image]), trust=trust))
    return prompts


def _batch(rows: list[list[int]]) -> Prompt:
    """Rows of token ids as one batch [rows, longest], with zeros before those that are shorter."""
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
    }


def _first_conversation(path: Path) -> str | None:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as rows:
        first = next(rows.iter_batches(batch_size=1, columns=["messages"]), None)
    if first is None:
        return None
    text = "\n".join(f"{message['role']}: {message['content']}" for message in first.to_pylist()[0]["messages"])
    return re.sub("<(image|video)>", "", text)


def _image(model: Path, placeholder: str, *, trust: bool) -> Prompt:
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(model), trust_remote_code=trust)
    image = Image.linear_gradient("L").resize((112, 112)).convert("RGB")
    text = f"<|vision_start|>{placeholder}<|vision_end|>What is this?"
    return dict(processor(text=[text], images=[image], return_tensors="pt"))
