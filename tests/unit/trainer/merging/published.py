"""A model's files beside its weights, as a published model has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

END_OF_TEXT, START, END = 100, 101, 102
TEMPLATE = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}"
)


def token(number: int, content: str, *, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return {"id": number, "content": content, **flags}


def decoded(added: dict[str, Any]) -> dict[str, Any]:
    return {key: added[key] for key in sorted(added) if key != "id"}


ADDED = [token(END_OF_TEXT, "<|endoftext|>"), token(START, "<|im_start|>"), token(END, "<|im_end|>")]


def tokenizer(*more: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "added_tokens": [*ADDED, *more],
        "model": {"type": "BPE", "vocab": {"Ġwörter": 0, "b": 1}, "merges": []},
    }


def tokenizer_config(**changed: Any) -> dict[str, Any]:
    return {
        "added_tokens_decoder": {str(added["id"]): decoded(added) for added in ADDED},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
        "add_bos_token": False,
    } | changed


def config(**changed: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "eos_token_id": END,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": 128,
    } | changed


def dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(directory: Path, **files: Any) -> Path:
    """A model whose JSON files are as above, but for those of `files`, by name without suffix; None: without it."""
    directory.mkdir()
    contents = {
        "config": config(),
        "generation_config": {"do_sample": True, "eos_token_id": [END, END_OF_TEXT], "top_p": 0.95},
        "tokenizer": tokenizer(),
        "tokenizer_config": tokenizer_config(),
    }
    for name, content in (contents | files).items():
        if content is not None:
            dump(directory / f"{name}.json", content)
    (directory / "merges.txt").write_text("#version: 0.2\n")
    (directory / "model.safetensors").write_bytes(b"base")
    return directory
