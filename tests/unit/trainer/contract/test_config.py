"""The stage's configuration: a mistake in it is named, and a newer operator's additions do no harm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer import __version__
from qwensft_trainer.contract.config import load_arguments
from qwensft_trainer.contract.errors import PermanentError

from ..conftest import Scene


def test_the_run_is_read_with_its_directories(scene: Scene) -> None:
    run = scene.run
    assert run.owner.uid == "uid-1"
    assert run.tokenized_directory == scene.run_directory / "data" / "tokenized"
    assert run.attempt_directory(3) == scene.run_directory / "train" / "3"


def test_a_missing_key_is_named(scene: Scene) -> None:
    del scene.document["model"]["path"]
    with pytest.raises(PermanentError) as caught:
        _ = scene.run
    assert caught.value.reason == "InvalidConfig"
    assert "model.path: Field required" in caught.value.message


def test_what_a_newer_operator_says_beside_is_ignored_and_logged(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.add_dataset("support", [])
    known = scene.run
    assert capsys.readouterr().out == ""
    scene.document |= {"operatorVersion": "9.1.0", "audit": {"level": 2}, "deadline": None}
    scene.document["tuning"]["smoothing"] = 0.1
    scene.document["datasets"][0]["licence"] = "CC0"
    newer = scene.run
    assert (newer.tuning, newer.datasets) == (known.tuning, known.datasets)
    told = re.findall(rf"run.yaml says (\S+), which this image \({__version__}\)", capsys.readouterr().out)
    assert sorted(told) == ["audit", "datasets.0.licence", "tuning.smoothing"]


def test_a_file_without_a_version_is_of_the_first(scene: Scene) -> None:
    assert scene.run.version == 1
    scene.document["version"] = 1
    assert scene.run.version == 1


@pytest.mark.parametrize("version", [5, 0, "1", 1.0, True, None])
def test_a_version_that_is_not_known_is_permanent_and_says_which_image_to_use(scene: Scene, version: Any) -> None:
    scene.document |= {"version": version, "operatorVersion": "9.1.0", "owner": "as version 5 has it"}
    with pytest.raises(PermanentError) as caught:
        _ = scene.run
    assert caught.value.reason == "InvalidConfig"
    assert f"run.yaml has version {version}, written by version 9.1.0 of the operator" in caught.value.message
    assert f"this image, version {__version__} of the trainer, reads versions up to 4" in caught.value.message
    assert "trainerImage" in caught.value.message


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
