"""The prompts as a model's own tokenizer, and processor, makes them in the release of transformers that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from corpus import IMAGE_PROMPT, PROMPTS  # type: ignore[import-not-found]  # beside it in the pod
from PIL import Image
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

POSITIONS = 32
"""How many of the last positions' logits are compared: as many as the trainer's verification computes."""


def prompts(model: Path) -> list[dict[str, Any]]:
    """Inputs of the model's forward; with an image for a model that sees."""
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    texts = [{"input_ids": torch.tensor([tokenizer(text)["input_ids"]])} for text in PROMPTS]
    if getattr(AutoConfig.from_pretrained(str(model)), "image_token_id", None) is None:
        return texts
    return [*texts, image_prompt(model)]


def image_prompt(model: Path) -> dict[str, Any]:
    """One image, whose size both families' processors keep, and a question."""
    processor = AutoProcessor.from_pretrained(str(model))
    image = Image.radial_gradient("L").resize((224, 224)).convert("RGB")
    return dict(processor(text=[IMAGE_PROMPT], images=[image], return_tensors="pt"))
