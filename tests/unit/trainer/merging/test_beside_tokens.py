"""Tokens that were added for the training, in the base's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging.beside import Changed, write

from . import published
from .published import decoded, token

PLAIN, SPECIAL = token(103, "<plan>", special=False), token(104, "<|note|>")
TOLD = "added tokens <plan>, <|note|>"


def trained(directory: Path, *tokens: Any) -> Path:
    """The trained tokenizer as transformers 5 saves it."""
    directory.mkdir()
    published.dump(directory / "tokenizer.json", published.tokenizer(*tokens) | {"truncation": {"max_length": 8}})
    published.dump(directory / "tokenizer_config.json", {"extra_special_tokens": ["<|note|>"]})
    return directory


def grown(base: Path, *tokens: Any) -> tuple[Path, list[str]]:
    merged = base.with_name("merged")
    merged.mkdir()
    tokenizer = trained(base.with_name("trained"), *(tokens or (SPECIAL, PLAIN)))
    changed = Changed(dtype=None, untied=False, rows=None, template="qwen2_vl", thinking=True, tokenizer=tokenizer)
    return merged, write(base, merged, changed)


def test_they_are_appended_to_the_bases_vocabulary(tmp_path: Path) -> None:
    merged, told = grown(published.write(tmp_path / "base"))
    expected = json.dumps(published.tokenizer(PLAIN, SPECIAL), indent=2, ensure_ascii=False)
    assert (merged / "tokenizer.json").read_text(encoding="utf-8") == expected
    assert sorted(told) == [f"tokenizer.json: {TOLD}", f"tokenizer_config.json: {TOLD}"]


def test_they_are_in_the_tokenizers_config_as_transformers_4_reads_it(tmp_path: Path) -> None:
    merged, _ = grown(published.write(tmp_path / "base"))
    before, after = published.tokenizer_config(), published.load(merged / "tokenizer_config.json")
    assert after == before | {
        "added_tokens_decoder": before["added_tokens_decoder"] | {"103": decoded(PLAIN), "104": decoded(SPECIAL)},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|note|>"],
    }
    assert list(after) == list(before)
    assert list(after["added_tokens_decoder"]["103"]) == list(after["added_tokens_decoder"]["102"])


def test_a_list_of_special_tokens_begins_with_the_first(tmp_path: Path) -> None:
    config = published.tokenizer_config(additional_special_tokens=None)
    merged, _ = grown(published.write(tmp_path / "base", tokenizer_config=config))
    assert published.load(merged / "tokenizer_config.json")["additional_special_tokens"] == ["<|note|>"]


def test_no_list_begins_for_plain_tokens(tmp_path: Path) -> None:
    config = {"eos_token": "<|im_end|>"}
    merged, _ = grown(published.write(tmp_path / "base", tokenizer_config=config), PLAIN)
    assert published.load(merged / "tokenizer_config.json") == config


def test_a_base_saved_by_transformers_5_keeps_its_form(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base", tokenizer_config={"extra_special_tokens": ["<|im_end|>"]})
    merged, told = grown(base)
    assert (merged / "tokenizer_config.json").read_bytes() == (base / "tokenizer_config.json").read_bytes()
    assert told == [f"tokenizer.json: {TOLD}"]


def test_older_lists_have_them_too(tmp_path: Path) -> None:
    ids = {"<|endoftext|>": 100, "<|im_start|>": 101, "<|im_end|>": 102}
    base = published.write(
        tmp_path / "base",
        added_tokens=ids,
        special_tokens_map={"additional_special_tokens": [decoded(token(101, "<|im_start|>"))]},
    )
    merged, _ = grown(base)
    assert published.load(merged / "added_tokens.json") == ids | {"<plan>": 103, "<|note|>": 104}
    assert published.load(merged / "special_tokens_map.json")["additional_special_tokens"][1:] == ["<|note|>"]


def test_a_word_of_the_vocabulary_keeps_its_id(tmp_path: Path) -> None:
    word = token(1, "b", special=False)
    merged, _ = grown(published.write(tmp_path / "base"), word)
    assert published.load(merged / "tokenizer.json")["added_tokens"][-1] == word


def test_a_base_without_tokenizer_json(tmp_path: Path) -> None:
    merged, told = grown(published.write(tmp_path / "base", tokenizer=None))
    assert published.load(merged / "tokenizer_config.json")["added_tokens_decoder"]["104"] == decoded(SPECIAL)
    assert not (merged / "tokenizer.json").exists()
    assert told == [f"tokenizer_config.json: {TOLD}"]


def test_tokens_that_the_base_has_change_nothing(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base")
    merged, told = grown(base, token(103, "<|im_end|>"))
    assert told == []
    assert (merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    "tokens", [(token(102, "<plan>"),), (token(0, "<plan>"),), (PLAIN, token(103, "<other>"))], ids=str
)
def test_an_id_that_is_another_tokens_is_refused(tmp_path: Path, tokens: tuple[Any, ...]) -> None:
    base = published.write(tmp_path / "base")
    with pytest.raises(PermanentError, match="has the id") as refused:
        grown(base, *tokens)
    assert refused.value.reason == "MergeFailed"


def test_an_id_of_the_tokenizers_config_alone_is_refused(tmp_path: Path) -> None:
    config = published.tokenizer_config(added_tokens_decoder={"103": decoded(token(103, "<tool>"))})
    with pytest.raises(PermanentError, match="'<plan>' has the id 103, which is that of '<tool>'"):
        grown(published.write(tmp_path / "base", tokenizer_config=config))


def test_a_trained_tokenizer_must_tell_ids(tmp_path: Path) -> None:
    base, merged = published.write(tmp_path / "base"), tmp_path / "merged"
    merged.mkdir()
    (merged / "tokenizer.json").write_text("export")
    changed = Changed(dtype=None, untied=False, rows=None, template="qwen", thinking=True, tokenizer=tmp_path)
    with pytest.raises(PermanentError, match="tells the added tokens' ids"):
        write(base, merged, changed)


def test_a_base_that_lists_no_tokens_gets_the_trained_vocabulary(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base", tokenizer_config={"eos_token": "<|im_end|>"})
    (base / "tokenizer.json").unlink()
    merged, told = grown(base)
    assert (merged / "tokenizer.json").read_bytes() == (tmp_path / "trained" / "tokenizer.json").read_bytes()
    assert (merged / "tokenizer_config.json").read_bytes() == (base / "tokenizer_config.json").read_bytes()
    assert told == ["tokenizer.json: added tokens; the base has no list of any"]
