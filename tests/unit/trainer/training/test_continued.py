"""Another run's adapter is copied once, and is at every attempt, byte for byte, the one with which this run began."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError
from qwensft_trainer.training import continued

from .. import adapters
from ..conftest import Scene


@pytest.fixture
def source(scene: Scene) -> Path:
    """The directory with the adapter of the other run."""
    return adapters.continues(scene)


def refusal(scene: Scene, act: Callable[..., None] = continued.provide) -> str:
    with pytest.raises(PermanentError) as caught:
        act(scene.run)
    assert (caught.value.reason, caught.value.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "the adapter of QwenSFTJob first (UID uid-0) with which this run began" in caught.value.message
    assert "Create this QwenSFTJob anew" in caught.value.message
    return caught.value.message


def test_the_result_is_copied_without_what_stands_beside_it(scene: Scene, source: Path) -> None:
    continued.provide(scene.run)
    copy = scene.run.adapter_directory
    assert {path.name for path in copy.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    }
    assert all(path.read_bytes() == (source / path.name).read_bytes() for path in copy.iterdir())
    continued.require(scene.run)


def test_the_other_volume_is_needed_once(scene: Scene, source: Path) -> None:
    continued.provide(scene.run)
    shutil.rmtree(source)
    continued.provide(scene.run)
    continued.require(scene.run)


def trained_anew(source: Path) -> None:
    adapters.write(source, rank=2)


def linked_elsewhere(source: Path) -> None:
    (source / "tokenizer.json").unlink()
    os.symlink("/proc/self/environ", source / "tokenizer.json")


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another was trained": (trained_anew, "has the digest sha256:"),
    "a file is new": (lambda source: (source / "README.md").write_text("mine"), "has the digest sha256:"),
    "a file is gone": (lambda source: (source / "tokenizer.json").unlink(), "has the digest sha256:"),
    "all is gone": (shutil.rmtree, "there is no directory"),
    "a file is a link": (linked_elsewhere, "tokenizer.json leads out of"),
}


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS)
def test_another_adapter_is_refused_and_nothing_is_left_of_it(
    scene: Scene, source: Path, change: Callable[[Path], object], words: str
) -> None:
    change(source)
    assert words in refusal(scene)
    assert not scene.run.adapter_directory.exists()


@pytest.mark.parametrize("change", [change for change, _ in OTHERS.values()], ids=OTHERS)
def test_an_attempt_notices_that_the_copy_is_another(
    scene: Scene, source: Path, change: Callable[[Path], object]
) -> None:
    continued.provide(scene.run)
    change(scene.run.adapter_directory)
    message = refusal(scene, continued.require)
    assert f"the copy in {scene.run.adapter_directory} was changed or taken away after it was prepared" in message


def test_a_copy_that_was_cut_off_or_changed_is_made_anew(scene: Scene, source: Path) -> None:
    partial = scene.run_directory / "data" / ".adapter.partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    continued.provide(scene.run)
    (scene.run.adapter_directory / "adapter_config.json").write_text("{}")
    continued.provide(scene.run)
    continued.require(scene.run)
    assert not partial.exists()


def test_who_trains_on_none_has_none(scene: Scene, source: Path) -> None:
    """Such as another experiment in the same directory, after onExisting: Resume."""
    continued.provide(scene.run)
    del scene.document["model"]["adapter"]
    continued.provide(scene.run)
    continued.require(scene.run)
    assert not scene.run.adapter_directory.exists()
