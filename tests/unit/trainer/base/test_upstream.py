"""What stands for getattr in a checkpoint gives members of enumerations; a processor is asked for where one may be."""

import json
import os
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qwensft_trainer.base import upstream
from qwensft_trainer.base.upstream import _member


class Stage(IntEnum):
    WEIGHTS = 3


def test_a_member_is_found_by_its_name() -> None:
    assert _member(Stage, "WEIGHTS") is Stage.WEIGHTS


@pytest.mark.parametrize(("kind", "name"), [(os, "system"), (dict, "fromkeys"), (Stage.WEIGHTS, "to_bytes")])
def test_nothing_else_is_reached(kind: object, name: str) -> None:
    with pytest.raises(TypeError, match="is no enumeration"):
        _member(kind, name)


def test_what_an_enumeration_has_beside_its_members_is_not_reached() -> None:
    with pytest.raises(KeyError):
        _member(Stage, "__subclasses__")


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """LLaMA-Factory's module that loads tokenizer and processor, mended; transformers finds all it is asked for."""
    found = type("AutoProcessor", (), {"from_pretrained": staticmethod(lambda name, **_: f"processor of {name}")})
    modules = {"llamafactory": {}, "llamafactory.model": {}, "llamafactory.model.loader": {"AutoProcessor": found}}
    for name, content in (modules | {"transformers": {"AutoProcessor": found}}).items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    upstream.load_tokenizers_once()
    return sys.modules["llamafactory.model.loader"]


def text_model(directory: Path, **tokenizer: str) -> str:
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return str(directory)


def test_a_model_of_texts_is_not_asked_for_a_processor(loader: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="has none"):
        loader.AutoProcessor.from_pretrained(text_model(tmp_path), use_fast=True)


@pytest.mark.parametrize(
    "file", ["processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"]
)
def test_a_model_with_a_processor_is_asked(loader: Any, tmp_path: Path, file: str) -> None:
    model = text_model(tmp_path)
    (tmp_path / file).write_text("{}")
    assert loader.AutoProcessor.from_pretrained(model) == f"processor of {model}"


def test_a_model_whose_tokenizer_names_one_is_asked(loader: Any, tmp_path: Path) -> None:
    model = text_model(tmp_path, processor_class="Qwen2VLProcessor")
    assert loader.AutoProcessor.from_pretrained(model) == f"processor of {model}"


def test_files_that_cannot_be_read_prove_nothing(loader: Any, tmp_path: Path) -> None:
    assert loader.AutoProcessor.from_pretrained(str(tmp_path)) == f"processor of {tmp_path}"
