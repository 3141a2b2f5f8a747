"""How answers end: with <|im_end|>, as training teaches it. Base models name <|endoftext|>, and would never stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.merging.documents import objects

END = "<|im_end|>"


def end_of(base: Path) -> int | None:
    """The id of <|im_end|>; None for a vocabulary without it."""
    added = (files.read_json_object(base / "tokenizer.json") or {}).get("added_tokens") or []
    decoder = (files.read_json_object(base / "tokenizer_config.json") or {}).get("added_tokens_decoder") or {}
    ids = [token["id"] for token in added if token["content"] == END]
    ids += [int(number) for number, token in decoder.items() if token["content"] == END]
    return ids[0] if ids else None


def in_generation(generation: dict[str, Any], end: int) -> list[str]:
    """Let generation_config.json stop at `end`, too."""
    before = generation.get("eos_token_id")
    if before is None or end in _listed(before):
        return []
    generation["eos_token_id"] = [end, *_listed(before)]
    return [f"eos_token_id has {end}: answers end with {END}"]


def in_config(config: dict[str, Any], end: int) -> list[str]:
    """Let config.json name `end` wherever it names another."""
    stale = [
        part
        for part in objects(config, "text_config")
        if (before := part.get("eos_token_id")) is not None and end not in _listed(before)
    ]
    for part in stale:
        part["eos_token_id"] = end
    return [f"eos_token_id is {end}: answers end with {END}"] if stale else []


def in_tokenizer(tokenizer: dict[str, Any]) -> list[str]:
    """Let tokenizer_config.json, or special_tokens_map.json, name <|im_end|>: a text, or an object with its flags."""
    before = tokenizer.get("eos_token")
    if isinstance(before, dict):
        if before.get("content") == END:
            return []
        before["content"] = END
    elif before in (None, END):
        return []
    else:
        tokenizer["eos_token"] = END
    return [f"eos_token is {END}: answers end with it"]


def _listed(ids: Any) -> list[Any]:
    return ids if isinstance(ids, list) else [ids]
