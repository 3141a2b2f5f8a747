"""Another run's merged model is used only if it is, byte for byte, the one with which this run began."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError
from qwensft_trainer.contract.outputs import MANIFEST
from qwensft_trainer.merging.files import write_manifest
from qwensft_trainer.model import source as model_source

from ..conftest import Scene
from .obtaining import failure


@pytest.fixture
def second(scene: Scene) -> Scene:
    """A run whose base is what another has merged."""
    write_manifest(scene.root / "model", {})
    digest = hashlib.sha256((scene.root / "model" / MANIFEST).read_bytes()).hexdigest()
    scene.document["model"]["mergedBy"] = {"name": "first", "uid": "uid-0", "digest": f"sha256:{digest}"}
    scene.run_directory.mkdir()
    return scene


def test_the_very_model_is_taken_and_noted(second: Scene) -> None:
    model_source.provide(second.run)
    noted = json.loads((second.run_directory / "model.json").read_text())
    assert noted == {"mergedBy": second.document["model"]["mergedBy"], "path": str(second.root / "model")}


def replaced(name: str, text: str) -> Callable[[Path], object]:
    return lambda model: (model / name).write_text(text)


def merged_anew(model: Path) -> None:
    (model / MANIFEST).unlink()
    (model / "tokenizer.json").write_text('{"version": "2"}')
    write_manifest(model, {})


SEEN_AT_ONCE: dict[str, tuple[Callable[[Path], object], str]] = {
    "merged anew": (merged_anew, "its digest is not sha256:"),
    "the list is gone": (lambda model: (model / MANIFEST).unlink(), f"there is no {MANIFEST} that could be read"),
    "the list is no list": (replaced(MANIFEST, "[]"), f"there is no {MANIFEST} that could be read"),
    "the list says something else": (replaced(MANIFEST, "{}"), "its digest is not sha256:"),
    "a file has another size": (replaced("tokenizer.json", "{} "), "tokenizer.json is missing, or of another size"),
    "a file is new": (replaced("generation_config.json", "{}"), "generation_config.json is in no line of"),
}
SEEN_BY_READING = {
    "a file has other bytes of the same number": (
        lambda model: (model / "tokenizer.json").write_text("[]"),
        "tokenizer.json has another content than",
    ),
}


@pytest.mark.parametrize(
    ("change", "words"), [*SEEN_AT_ONCE.values(), *SEEN_BY_READING.values()], ids=[*SEEN_AT_ONCE, *SEEN_BY_READING]
)
def test_another_model_is_refused_before_anything_is_prepared(
    second: Scene, change: Callable[[Path], object], words: str
) -> None:
    change(second.root / "model")
    error = failure(second)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert words in error.message
    assert "QwenSFTJob first (UID uid-0) with which this run began" in error.message
    assert "Create this QwenSFTJob anew" in error.message
    assert not (second.run_directory / "model.json").exists()


@pytest.mark.parametrize(("change", "words"), SEEN_AT_ONCE.values(), ids=SEEN_AT_ONCE)
def test_later_stages_notice_it_too(second: Scene, change: Callable[[Path], object], words: str) -> None:
    model_source.provide(second.run)
    change(second.root / "model")
    with pytest.raises(PermanentError, match=words):
        model_source.require(second.run)


def test_a_model_that_is_gone_is_told_with_the_run_that_made_it(second: Scene) -> None:
    (second.root / "model").rename(second.root / "elsewhere")
    assert "There is no model directory" in failure(second).message
    assert "It was the merged model of QwenSFTJob first (UID uid-0)" in failure(second).message


def test_all_bytes_are_read_once_for_each_run(second: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest = files.sha256_of_file

    def sha256_of_file(path: Path) -> str:
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(files, "sha256_of_file", sha256_of_file)
    model_source.provide(second.run)
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(read)
    read.clear()
    model_source.provide(second.run)
    model_source.require(second.run)
    assert set(read) == {MANIFEST}
    second.document["model"]["mergedBy"]["uid"] = "uid-9"  # another experiment in the directory (onExisting: Resume)
    model_source.provide(second.run)
    assert "model.safetensors" in read


def test_hidden_files_of_file_systems_are_no_part_of_a_model(second: Scene) -> None:
    (second.root / "model" / ".nfs0001").write_text("")
    model_source.provide(second.run)


def test_a_link_in_the_place_of_the_list_is_not_followed(second: Scene) -> None:
    (second.root / "model" / MANIFEST).unlink()
    os.symlink("/proc/self/environ", second.root / "model" / MANIFEST)
    assert f"{MANIFEST} leads out of" in failure(second).message
