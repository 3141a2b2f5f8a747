"""The GPU benchmark where torch is given: what has to come as wheels, and that what is given stays."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.gpu import __main__, given, published, scenes
from benchmarks.gpu.given import Pin
from benchmarks.gpu.scenes import SUITE, Scene

PINNED = given.pins(given.REQUIREMENTS.read_text())


def names(pins: list[Pin]) -> set[str]:
    return {pin.name for pin in pins}


def test_every_package_of_the_trainer_image_is_known_with_its_hashes() -> None:
    lines = given.REQUIREMENTS.read_text().splitlines()
    assert [pin.name for pin in PINNED] == [line.partition("==")[0] for line in lines if "==" in line]
    assert all("--hash=sha256:" in pin.line for pin in PINNED)


def test_torch_and_what_it_loads_is_never_replaced() -> None:
    wanted, companions = given.split(PINNED, {"torch": "2.6.0+cu124"})
    assert not [name for name in names([*wanted, *companions]) if re.match(r"torch$|triton|nvidia-", name)]
    assert {"transformers", "llamafactory", "liger-kernel", "numpy"} <= names(wanted)


def test_what_is_compiled_against_torch_comes_in_the_release_that_goes_with_it() -> None:
    _, companions = given.split(PINNED, {"torch": "2.6.0a0+nv25.1", "torchaudio": "2.6.0"})
    assert [(pin.name, pin.version, pin.hashes) for pin in companions] == [("torchvision", "0.21.0a0", "")]
    _, companions = given.split(PINNED, {"torch": "2.8.0+cu128"})
    assert {pin.name: pin.version for pin in companions} == {"torchaudio": "2.8.0", "torchvision": "0.23.0"}
    assert all(pin.hashes for pin in companions)


def test_what_is_given_in_our_version_is_not_installed_and_in_another_it_is() -> None:
    version = next(pin.version for pin in PINNED if pin.name == "typing-extensions")
    wanted, _ = given.split(PINNED, {"torch": "2.8.0", "typing-extensions": version, "numpy": "1.26.4"})
    assert "typing-extensions" not in names(wanted)
    assert "numpy" in names(wanted)


@pytest.mark.parametrize(
    ("name", "file", "found"),
    [
        ("charset-normalizer", "charset_normalizer-3.5.2-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("charset-normalizer", "charset_normalizer-3.5.3-py3-none-any.whl", False),
        ("pyyaml", "PyYAML-3.5.2-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("charset", "charset_normalizer-3.5.2-py3-none-any.whl", False),
    ],
)
def test_a_wheel_is_known_by_name_and_version(name: str, file: str, found: bool) -> None:
    assert Pin(name, "3.5.2").is_in([file]) is found


def test_missing_wheels_are_told_with_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "distributions", list)
    with pytest.raises(SystemExit, match="has no torch"):
        given.run(tmp_path / "wheels", tmp_path / "packages", [])

    torch = SimpleNamespace(metadata={"Name": "torch"}, version="2.8.0")
    monkeypatch.setattr(metadata, "distributions", lambda: [torch])
    with pytest.raises(SystemExit) as told:
        given.run(tmp_path / "wheels", tmp_path / "packages", [])
    message = str(told.value)
    assert "accelerate 1.11.0" in message
    python = f"--python-version {sys.version_info.major}.{sys.version_info.minor}"
    for words in ("pip download", "--only-binary=:all:", "--requirement wheels.txt", python, platform.machine()):
        assert words in message
    wanted = (tmp_path / "wheels" / "wheels.txt").read_text()
    assert "--hash=sha256:" in wanted
    assert "\ntorch==" not in wanted
    assert not (tmp_path / "packages").exists()


def test_the_option_is_not_handed_on() -> None:
    assert __main__._without_wheels(["--dry", "--wheels", "w", "--suite"]) == ["--dry", "--suite"]
    assert __main__._without_wheels(["--wheels=w", "--rounds", "1"]) == ["--rounds", "1"]


def test_the_suite_changes_one_thing_at_a_time() -> None:
    assert {scene.method for scene in SUITE} == {"lora", "qlora", "full"}
    assert len({scene.name for scene in SUITE}) == len(SUITE)
    assert Scene("lora", packing=False) in SUITE
    assert Scene("lora", liger=False) in SUITE


def test_without_liger_kernels_no_scene_stands_twice() -> None:
    left = scenes.possible(SUITE, liger=False)
    assert [scene.name for scene in left] == ["lora-packing", "lora", "qlora-packing", "full-packing"]
    assert scenes.possible(SUITE, liger=True) == list(SUITE)


def test_what_others_have_published_is_shown_with_its_source() -> None:
    shown = published.table()
    for one in published.PUBLISHED:
        assert one.source in shown
        assert f"{one.tokens_per_second:,.0f}" in shown
