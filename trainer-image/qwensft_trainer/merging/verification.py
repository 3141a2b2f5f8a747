"""Proves that a merged model is what it claims to be: base plus adapter, or the fully tuned weights, and nothing else.

Every failure is MergeVerificationFailed and permanent: the merged files are not published. ADR 0093 says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from qwensft_trainer.base import upstream
from qwensft_trainer.base.log import log
from qwensft_trainer.merging import layers, tensors
from qwensft_trainer.merging.layers import Prompt
from qwensft_trainer.merging.reference import Reference, Tensors
from qwensft_trainer.merging.tensors import refused

TOLERANCE = 1e-4
"""‖reference - merged‖ / ‖reference‖ of the logits, for what processors may compute otherwise from run to run."""

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
        error = _error(reference, base, merged, prompts, untied=untied, rows=rows, trust=trust)
    if not error <= TOLERANCE:  # NaN, too
        raise refused(
            f"its logits are {error:.2g} (relative) away from those of base and training with the base's config.json; "
            f"at most {TOLERANCE:g} is explained by the order of sums"
        )
    log(f"verified logits on {len(prompts)} batches of prompts: relative error {error:.2g}")
    return checks | {"prompts": len(prompts), "relativeError": error, "tolerance": TOLERANCE}


def _error(
    reference: Reference,
    base: Path,
    merged: Path,
    prompts: Sequence[Prompt],
    *,
    untied: bool,
    rows: int | None,
    trust: bool,
) -> float:
    """The largest relative error over the prompts, with the base's own config.json for what must be computed."""
    upstream.compute_experts_without_cuda()
    config = layers.config_of(base, trust=trust)
    if untied:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    if rows is not None:
        config.get_text_config().vocab_size = rows
    found = Tensors(merged)

    def equally_rounded(name: str) -> torch.Tensor:
        return tensors.equally_rounded(reference.expected(name), found.get(name))

    wanted = layers.logits(config, reference.names, equally_rounded, prompts, trust=trust)
    given = layers.logits(layers.config_of(merged, trust=trust), found.names, found.get, prompts, trust=trust)
    found.close()
    errors = [
        float((one - other).norm() / one.norm().clamp_min(1e-30)) if one.shape == other.shape else math.inf
        for one, other in zip(wanted, given, strict=True)
    ]
    return max(errors, key=lambda error: (math.isnan(error), error))


def _prompts(base: Path, merged: Path, data: Path, *, trust: bool) -> list[Prompt]:
    """What the models are asked: a fixed sentence and the first rows of the datasets; and an image to one that sees.

    Raises PermanentError when the merged model's tokenizer reads the texts otherwise than the base's.
    """
    from transformers import AutoTokenizer

    texts = ["The quick brown fox jumps over the lazy dog.<|im_end|>\n敏捷的狐狸 🦊"]
    texts += [text for path in sorted(data.glob("*.parquet")) if (text := _first_conversation(path))]
    texts = texts[:_PROMPTS]
    before, tokenizer = (AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust) for path in (base, merged))
    vocabulary = tokenizer.get_vocab()
    if moved := sorted(word for word, number in before.get_vocab().items() if vocabulary.get(word) != number):
        raise refused(f"its tokenizer has another id for {moved[0]!r} than the base's")
    added = vocabulary.keys() - before.get_vocab().keys()
    rows = [tokenizer(text)["input_ids"][:_MOST_PROMPT_TOKENS] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if not any(token in text for token in added) and row != before(text)["input_ids"][:_MOST_PROMPT_TOKENS]:
            raise refused("its tokenizer reads a text otherwise than the base's")
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
