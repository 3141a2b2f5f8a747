"""The stage's configuration is read strictly, and a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwensft_trainer.config import load_arguments
from qwensft_trainer.errors import PermanentError

from .conftest import Scene


def test_the_run_is_read_with_its_directories(scene: Scene) -> None:
    run = scene.description
    assert run.owner.uid == "uid-1"
    assert run.tokenized_directory == scene.run_directory / "data" / "tokenized"
    assert run.attempt_directory(3) == scene.run_directory / "train" / "3"


def test_an_unknown_or_missing_key_is_named(scene: Scene) -> None:
    scene.run["model"]["pth"] = scene.run["model"].pop("path")
    with pytest.raises(PermanentError) as caught:
        _ = scene.description
    assert caught.value.reason == "InvalidConfig"
    assert "model.path: Field required" in caught.value.message
    assert "model.pth: Extra inputs are not permitted" in caught.value.message


@pytest.mark.parametrize("text", ["5e-6", "5.0e-06", "5E-6", "0.000005"])
def test_numbers_read_as_people_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(f"learning_rate: {text}\nname: 5e\nsteps: 10\n")
    assert load_arguments(path) == {"learning_rate": 5e-6, "name": "5e", "steps": 10}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "part of the configuration: No such file"),
        ("- a\n", "must hold a YAML mapping, not list"),
        ("a: [", "not valid"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path, content: str | None, expected: str) -> None:
    path = tmp_path / "train.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentError) as caught:
        load_arguments(path)
    assert expected in caught.value.message
    assert str(path) in caught.value.message
