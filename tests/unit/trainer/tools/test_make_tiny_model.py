"""The tiny models have what published ones have, and what an option adds leaves the rest as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.matrix.setting import TINY_MODELS

import make_tiny_model
from tiny_architectures import ARCHITECTURES, language_of

Write = Callable[..., Path]
END_OF_TEXT = 151643


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes the model of some options, with a vocabulary of 16."""
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in make_tiny_model.TOKENIZER_FILES:
        (tokenizer / name).write_text('{"eos_token": "<|im_end|>", "chat_template": "…"}')
    for config, _, _ in ARCHITECTURES.values():
        monkeypatch.setitem(language_of(config), "vocab_size", 16)

    def written(options: str = "") -> Path:
        directory = tmp_path / (options or "plain")
        arguments = [str(directory), "--tokenizer", str(tokenizer), *options.split()]
        monkeypatch.setattr(sys, "argv", ["make_tiny_model.py", *arguments])
        make_tiny_model.main()
        return directory

    return written


def content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def tensors(directory: Path, pattern: str = "*.safetensors") -> dict[str, np.ndarray]:
    """All tensors in the order of the files; those of bfloat16 as integers."""
    found = {}
    for path in sorted(directory.glob(pattern)):
        file = path.read_bytes()
        length = int.from_bytes(file[:8], "little")
        for name, entry in json.loads(file[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                kind = {"F32": "<f4", "BF16": "<u2"}[entry["dtype"]]
                found[name] = np.frombuffer(file[begin:end], kind).reshape(entry["shape"])
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_without_options_there_is_nothing_special(write: Write) -> None:
    plain = write()
    assert {path.name for path in plain.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *make_tiny_model.TOKENIZER_FILES,
    }
    assert content(plain / "config.json") == ARCHITECTURES["qwen3"][0]
    assert not [name for name in tensors(plain) if name.startswith(("mtp.", "lm_head."))]


@pytest.mark.parametrize(
    ("plain", "name"), [("", "qwen3_base"), ("--architecture qwen2 --dtype bfloat16", "qwen2_yarn")]
)
def test_the_matrix_kinds_have_all_tensors_of_a_plain_model_and_others(write: Write, plain: str, name: str) -> None:
    before, after = tensors(write(plain)), tensors(write(TINY_MODELS[name]))
    assert same(before, {name: values for name, values in after.items() if name in before})
    assert len(after) > len(before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_base_model_ends_its_texts_in_all_three_files(write: Write, architecture: str) -> None:
    model = write(f"--base --architecture {architecture}")
    assert language_of(content(model / "config.json"))["eos_token_id"] == END_OF_TEXT
    assert content(model / "generation_config.json") == {
        "bos_token_id": END_OF_TEXT,
        "do_sample": False,
        "eos_token_id": END_OF_TEXT,
        "max_new_tokens": 2048,
    }
    assert content(model / "tokenizer_config.json") == {"eos_token": "<|endoftext|>", "chat_template": "…"}


def test_a_tied_model_may_store_its_output_layer(write: Write) -> None:
    model = write("--stored-head")
    found = tensors(model)
    assert content(model / "config.json")["tie_word_embeddings"] is True
    assert np.array_equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


def test_a_model_that_is_not_tied_stores_it_anyway(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        write("--stored-head --architecture qwen2")
    assert "qwen2 is not tied" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_hold_all_tensors_once_and_the_index_finds_them(write: Write, dtype: str) -> None:
    whole, parted = write(f"--dtype {dtype}"), write(f"--dtype {dtype} --shards 3")
    index = content(parted / "model.safetensors.index.json")
    places = index["weight_map"]
    assert same(tensors(parted), tensors(whole))
    assert places == {name: file for file in sorted(set(places.values())) for name in tensors(parted, file)}
    assert set(places.values()) == {f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)}
    assert index["metadata"] == {"total_size": sum(values.nbytes for values in tensors(whole).values())}
    assert not (parted / "model.safetensors").exists()


def test_shards_part_layers_and_are_sorted(write: Write) -> None:
    model = write("--shards 3")
    places = content(model / "model.safetensors.index.json")["weight_map"]
    assert len({file for name, file in places.items() if name.startswith("model.layers.0.")}) == 2
    assert list(places) == sorted(places)
    for file in places.values():
        assert list(tensors(model, file)) == sorted(tensors(model, file))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_yarn_stretches_whatever_the_positions_are_made_of(write: Write, architecture: str) -> None:
    plain = language_of(content(write(f"--architecture {architecture}") / "config.json"))
    text = language_of(content(write(f"--architecture {architecture} --yarn") / "config.json"))
    kind = "type" if architecture.startswith("qwen2") else "rope_type"
    assert text["rope_scaling"] == (plain["rope_scaling"] or {}) | {
        kind: "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": plain["max_position_embeddings"],
    }
    assert text["rope_theta"] == 1000000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_mtp_is_a_layer_of_its_own_with_values_that_no_new_model_has(write: Write, architecture: str) -> None:
    model = write(f"--architecture {architecture} --mtp")
    added = {name: values for name, values in tensors(model).items() if name.startswith("mtp.")}
    width = language_of(content(model / "config.json"))["hidden_size"]
    assert added["mtp.fc.weight"].shape == (width, 2 * width)
    assert {"mtp.norm.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.layers.0.input_layernorm.weight"} <= set(
        added
    )
    assert all(values.all() and values.std() > 0 for values in added.values())
    assert language_of(content(model / "config.json"))["mtp_num_hidden_layers"] == 1


def test_the_language_part_has_the_dtype_too(write: Write) -> None:
    config = content(write("--architecture qwen3_vl --dtype bfloat16") / "config.json")
    assert config["torch_dtype"] == config["text_config"]["torch_dtype"] == "bfloat16"
