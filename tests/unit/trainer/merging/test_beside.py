"""The files beside a merged model's weights are the base's, but for what training has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.merging.beside import Changed, write

from . import published
from .published import END, END_OF_TEXT

TEXT_END = "<|endoftext|>"
NOTHING: dict[str, Any] = {
    "dtype": None,
    "untied": False,
    "rows": None,
    "template": "qwen2_vl",
    "thinking": True,
    "tokenizer": None,
}
VISION = {"model_type": "qwen3_vl", "torch_dtype": "bfloat16", "tie_word_embeddings": True}
PARTS = {
    "text_config": {"dtype": "bfloat16", "eos_token_id": END, "vocab_size": 128, "mamba_ssm_dtype": "float32"},
    "vision_config": {"depth": 2, "dtype": "bfloat16"},
}


def written(base: Path, **changed: Any) -> tuple[Path, list[str]]:
    merged = base.with_name("merged")
    merged.mkdir(exist_ok=True)
    return merged, write(base, merged, Changed(**NOTHING | changed))


def config_of(directory: Path, config: dict[str, Any], **changed: Any) -> tuple[Any, list[str]]:
    merged, told = written(published.write(directory / "base", config=config), **changed)
    return published.load(merged / "config.json"), told


def differing(base: Path, merged: Path) -> set[str]:
    return {path.name for path in merged.iterdir() if path.read_bytes() != (base / path.name).read_bytes()}


def test_untouched_files_are_the_bases_byte_for_byte(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base")
    (base / "config.json").write_bytes(b'{"vocab_size":128,\r\n  "eos_token_id" : 102, "rope_theta": 1e6}\r\n')
    more = ("LICENSE", "NOTICE.md", "modeling_own.py", "chat_template.jinja", "spiece.model", "special_tokens_map.json")
    for name in more:
        (base / name).write_text(f"{name}\r\n")
    merged, told = written(base, rows=128)
    assert told == []
    assert {path.name for path in base.iterdir()} - {path.name for path in merged.iterdir()} == {"model.safetensors"}
    assert {*more, "merges.txt", "config.json"} <= {path.name for path in merged.iterdir()}
    assert differing(base, merged) == set()


@pytest.mark.parametrize(
    "name",
    [
        *("model.safetensors.index.json", "pytorch_model.bin.index.json", "pytorch_model.bin", "model.gguf", "a.pt"),
        *("README.md", ".gitattributes", ".qwensft-model.json", "qwensft-manifest.json", "adapter_config.json"),
    ],
)
def test_what_is_not_of_the_model_stays_with_the_base(tmp_path: Path, name: str) -> None:
    base = published.write(tmp_path / "base")
    (base / name).write_text("{}")
    (base / "figures").mkdir()
    merged, _ = written(base)
    assert not (merged / name).exists()
    assert not (merged / "figures").exists()


def test_an_exports_own_files_go_and_its_weights_stay(tmp_path: Path) -> None:
    base, merged = published.write(tmp_path / "base"), tmp_path / "merged"
    weights = {"model-00001-of-00001.safetensors", "model.safetensors.index.json", ".files.json"}
    gone = {"chat_template.jinja", "Modelfile", "added_tokens.json", "special_tokens_map.json", "README.md"}
    replaced = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    (merged / "additional_chat_templates").mkdir(parents=True)
    for name in weights | gone | replaced:
        (merged / name).write_text("export")
    written(base)
    names = {path.name for path in merged.iterdir()}
    assert names == weights | replaced | {"generation_config.json", "merges.txt"}
    assert {name for name in names if (merged / name).read_bytes() == b"export"} == weights


def test_files_of_the_base_that_are_links_become_files(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base")
    (base / "merges.txt").rename(tmp_path / "blob")
    (base / "merges.txt").symlink_to(tmp_path / "blob")
    merged, _ = written(base)
    assert not (merged / "merges.txt").is_symlink()
    assert (merged / "merges.txt").read_bytes() == (tmp_path / "blob").read_bytes()


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("indent", [None, 2, 4, "\t"])
def test_only_what_changes_is_written_otherwise(tmp_path: Path, indent: Any, end: str) -> None:
    base = published.write(tmp_path / "base")
    text = json.dumps(published.config(note="ä"), indent=indent, ensure_ascii=False) + end
    (base / "config.json").write_text(text)
    merged, told = written(base, rows=192, untied=True, dtype="fp16")
    expected = text.replace("128", "192").replace("true", "false").replace("bfloat16", "float16")
    assert (merged / "config.json").read_text() == expected
    assert differing(base, merged) == {"config.json"}
    (line,) = told
    assert line.startswith("config.json: torch_dtype is float16, as spec.merge.dtype says; vocab_size is 192: ")
    assert "; tie_word_embeddings is false: " in line


def test_a_dtype_is_named_wherever_one_is(tmp_path: Path) -> None:
    config, _ = config_of(tmp_path, VISION | PARTS, dtype="fp32")
    assert config == VISION | {
        "torch_dtype": "float32",
        "text_config": PARTS["text_config"] | {"dtype": "float32"},
        "vision_config": {"depth": 2, "dtype": "float32"},
    }
    assert "dtype" not in config


def test_the_bases_own_dtype_changes_nothing(tmp_path: Path) -> None:
    _, told = config_of(tmp_path, VISION | PARTS, dtype="bf16")
    assert told == []


def test_rows_and_ties_of_the_text_part(tmp_path: Path) -> None:
    tied = PARTS["text_config"] | {"tie_word_embeddings": True}
    config, _ = config_of(tmp_path, VISION | PARTS | {"text_config": tied}, rows=192, untied=True)
    assert config["text_config"] == tied | {"vocab_size": 192, "tie_word_embeddings": False}
    assert "vocab_size" not in config
    assert config["tie_word_embeddings"] is False


def test_ties_that_are_none_are_left(tmp_path: Path) -> None:
    _, told = config_of(tmp_path, published.config(tie_word_embeddings=False), untied=True)
    assert told == []


def test_merged_weights_are_plain(tmp_path: Path) -> None:
    config, told = config_of(tmp_path, published.config(quantization_config={"quant_method": "awq"}))
    assert config == published.config()
    assert told == ["config.json: without quantization_config: the merged weights are not quantised"]


@pytest.mark.parametrize(
    ("before", "after"),
    [(END_OF_TEXT, [END, END_OF_TEXT]), ([END_OF_TEXT], [END, END_OF_TEXT]), (END, END), (None, None)],
)
def test_a_base_models_generation_ends_with_the_turn(tmp_path: Path, before: Any, after: Any) -> None:
    merged, told = written(published.write(tmp_path / "base", generation_config={"eos_token_id": before, "top_k": 20}))
    assert published.load(merged / "generation_config.json") == {"eos_token_id": after, "top_k": 20}
    assert [line.split(":")[0] for line in told] == (["generation_config.json"] if before != after else [])


def test_a_base_models_config_ends_with_the_turn(tmp_path: Path) -> None:
    text = PARTS["text_config"] | {"eos_token_id": END_OF_TEXT}
    config, told = config_of(tmp_path, {"eos_token_id": [END_OF_TEXT], "text_config": text, "rope_theta": 1})
    assert config == {"eos_token_id": END, "text_config": text | {"eos_token_id": END}, "rope_theta": 1}
    assert told == [f"config.json: eos_token_id is {END}: answers end with <|im_end|>"]


@pytest.mark.parametrize("stated", [END, [END, END_OF_TEXT], None])
def test_a_config_that_ends_so_or_says_nothing_is_left(tmp_path: Path, stated: Any) -> None:
    _, told = config_of(tmp_path, published.config(eos_token_id=stated))
    assert told == []


def test_a_base_models_tokenizer_ends_with_the_turn(tmp_path: Path) -> None:
    flags = {"content": TEXT_END, "lstrip": False, "normalized": False}
    base = published.write(
        tmp_path / "base",
        tokenizer_config=published.tokenizer_config(**dict.fromkeys(["eos_token", "pad_token"], TEXT_END)),
        special_tokens_map={"eos_token": flags, "pad_token": TEXT_END},
    )
    merged, told = written(base)
    after = published.load(merged / "tokenizer_config.json")
    assert after == published.tokenizer_config(pad_token=TEXT_END)
    assert list(after) == list(published.load(base / "tokenizer_config.json"))
    assert published.load(merged / "special_tokens_map.json") == {
        "eos_token": flags | {"content": "<|im_end|>"},
        "pad_token": TEXT_END,
    }
    assert len(told) == 2


def test_the_end_is_found_in_the_tokenizers_config_alone(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base", tokenizer=None, config=published.config(eos_token_id=END_OF_TEXT))
    merged, _ = written(base)
    assert published.load(merged / "config.json")["eos_token_id"] == END


def test_a_vocabulary_without_the_turns_end_is_left(tmp_path: Path) -> None:
    base = published.write(
        tmp_path / "base",
        config=published.config(eos_token_id=END_OF_TEXT),
        generation_config={"eos_token_id": END_OF_TEXT},
        tokenizer={"added_tokens": published.ADDED[:1]},
        tokenizer_config={"eos_token": TEXT_END},
    )
    merged, told = written(base)
    assert told == []
    assert differing(base, merged) == set()
