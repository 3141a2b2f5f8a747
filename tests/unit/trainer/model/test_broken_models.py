"""Whatever lies in a model directory: the message names the file and what to do, and nothing hangs or breaks off."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model import documents, families, safetensors_header
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain

from .. import broken, models
from ..conftest import Scene, safetensors

DOCUMENTS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.json"),
    "model.safetensors.index.json",
)
SHARD = "model-00001-of-00001.safetensors"
FIELDS = sorted(
    {*documents._COUNTS, *documents._NUMBERS, *documents._OBJECTS}
    | {"model_type", "architectures", "eos_token_id", "tie_word_embeddings", "chat_template", "dtype"}
)


@pytest.fixture
def model(scene: Scene) -> Path:
    """A model of two layers, whose weights an index names."""
    directory = scene.root / "model"
    models.write(directory, "qwen3")
    (directory / "model.safetensors").rename(directory / SHARD)
    names = safetensors_header.read(directory / SHARD).tensors
    (directory / model_source.INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, SHARD)}))
    return directory


def judge(scene: Scene) -> str | None:
    """The message with which prepare refuses the model, None if it takes it: the parts that read its files."""
    refused = None
    try:
        model_source.provide(scene.run)
        template = families.resolve_template(scene.run)
        chain.check(scene.run, {"template": template, "lora_target": "all", "cutoff_len": 2048})
        chain.describe(scene.run.model.path)
    except PermanentError as error:
        refused = error
    assert refused is None or (refused.reason in ("InvalidModel", "InvalidConfig") and len(refused.message) < 2000)
    return None if refused is None else refused.message


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    ("kind", "content"), broken.contents(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_document_that_is_none_is_named(scene: Scene, model: Path, name: str, kind: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    told = judge(scene)
    assert told is not None
    assert f"{model / name} holds no JSON object: it is damaged, or another file" in told
    assert "spec.model.source.volume" in told


@pytest.mark.parametrize("name", [*DOCUMENTS, SHARD, "tokenizer.json", "additional_chat_templates/tool.jinja"])
@pytest.mark.parametrize(("kind", "make"), broken.places(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_file_is_neither_waited_for_nor_read(
    scene: Scene, model: Path, name: str, kind: str, make: broken.Break
) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).touch()
    make(model / name)
    started = time.monotonic()
    told = judge(scene)
    assert time.monotonic() - started < 60
    if kind in ("a pipe", "a socket", "a link out of the volume", "a device"):
        assert told is not None
        assert str(model / name) in told
        assert "leads out of" in told or "neither a file nor a directory" in told
    elif told is not None:
        assert (model / name).name in told


@pytest.mark.parametrize("part", ["", "text_config", "rope_scaling", "quantization_config"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_another_type_is_named_or_left_to_transformers(
    scene: Scene, model: Path, part: str, field: str
) -> None:
    config = json.loads((model / "config.json").read_text())
    for value in broken.VALUES:
        changed = config | ({part: {field: value}} if part else {field: value})
        (model / "config.json").write_text(json.dumps(changed))
        if (told := judge(scene)) is not None and field not in ("model_type", "chat_template"):
            assert ("config.json" in told and field in told) or "quantised" in told, (value, told)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
@pytest.mark.parametrize("value", [*broken.VALUES, [{"name": []}], [{"name": {}, "template": 1}], [None], [{"a": "b"}]])
def test_a_chat_template_of_another_type_is_none(scene: Scene, model: Path, name: str, value: Any) -> None:
    (model / name).write_text(json.dumps({"chat_template": value}))
    told = judge(scene)
    assert told is None or "chat template" in told


@pytest.mark.parametrize(
    ("kind", "content"), broken.headers(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_weights_with_a_wrong_header_are_named(scene: Scene, model: Path, kind: str, content: bytes) -> None:
    (model / SHARD).write_bytes(content)
    told = judge(scene)
    if kind in ("dtype 'many'", "dtype ''"):  # types of newer versions are safetensors' own business
        return
    assert told is not None
    assert str(model / SHARD) in told
    assert "spec.model.source.volume" in told


@pytest.mark.parametrize("listed", [*broken.VALUES, {"a": "../x.safetensors"}, {"a": "/x.safetensors"}, {"a": {}}])
def test_an_index_without_weights_of_its_own_is_named(scene: Scene, model: Path, listed: Any) -> None:
    (model / model_source.INDEX).write_text(json.dumps({"weight_map": listed}))
    told = judge(scene)
    assert told is not None
    assert str(model / model_source.INDEX) in told


def test_documents_of_any_size_are_not_read(scene: Scene, model: Path) -> None:
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "merges.txt"):
        before = (model / name).read_bytes() if (model / name).exists() else b""
        with (model / name).open("ab") as stream:
            stream.truncate(1 << 40)
        told = judge(scene)
        assert told is not None
        assert f"{model / name} has 1048576 MiB; at most 64 are read of it" in told
        (model / name).write_bytes(before)


def test_a_header_of_any_size_is_not_read(scene: Scene, model: Path) -> None:
    with (model / SHARD).open("wb") as stream:
        stream.write((1 << 39).to_bytes(8, "little"))
        stream.truncate(1 << 40)
    told = judge(scene)
    assert told is not None
    assert "a header of 524288 MiB; at most 32 are read" in told


@pytest.mark.parametrize("planned", [{"mergePlanned": True}, {"merge": {"directory": "/workspace/run/merged"}}])
def test_a_file_whose_name_is_no_text_is_told_before_a_merge_would_list_it(
    scene: Scene, model: Path, planned: dict[str, Any]
) -> None:
    (model / os.fsdecode(b"LICENSE-caf\xe9.txt")).touch()
    assert judge(scene) is None  # nobody lists what is trained alone
    scene.document |= planned
    told = judge(scene)
    assert told is not None
    assert r"a file whose name is not UTF-8 ('LICENSE-caf\udce9.txt'): rename it" in told


def test_thousands_of_other_files_are_no_matter(scene: Scene, model: Path) -> None:
    for number in range(3000):
        (model / f"{number}.log").touch()
    assert judge(scene) is None


def test_the_right_model_passes(scene: Scene, model: Path) -> None:
    assert judge(scene) is None
    (model / SHARD).write_bytes(safetensors({"a": (2, 3), "b": (0,), "c": ()}))
    assert safetensors_header.read(model / SHARD).end == (model / SHARD).stat().st_size
