"""The images' byte code is used as it is, after builders have rounded times, and not for a source that was changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = 315619200
# The directory that is compiled, by Dockerfile.
COMPILED = {"Dockerfile": "/app", "trainer-image/Dockerfile": "/opt/qwensft/lib"}


def commands(dockerfile: str) -> list[str]:
    """What gives the sources their time and then compiles them, as it stands in the Dockerfile."""
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    directory = re.escape(COMPILED[dockerfile])
    touch = re.search(rf"find {directory} -name '\*\.py' -newermt .*?\{{\}} \+", text)
    compile_all = re.search(rf"python3? -m compileall (?:(?!&&).)*? {directory}\b", text)
    assert touch, text
    assert compile_all, text
    return [touch[0], compile_all[0].replace("python3 ", "python ").replace("python ", f"{sys.executable} ", 1)]


@pytest.fixture(params=COMPILED)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with a module, compiled as in an image, packed and unpacked with whole seconds."""
    built = tmp_path / "built"
    built.mkdir()
    (built / "module.py").write_text("value = 1\n")
    for command in commands(request.param):
        here = command.replace(COMPILED[request.param], str(built))
        subprocess.run(here, shell=True, check=True, env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)})  # noqa: S602
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        archive.add(built, "image", filter=rounded)
    with tarfile.open(layer) as archive:
        archive.extractall(tmp_path, filter="tar")
    return tmp_path / "image"


def rounded(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """As layers are packed."""
    entry.mtime = round(entry.mtime)
    return entry


def imported(image: Path) -> tuple[int, bool]:
    """The module's value, and whether it came from its byte code."""
    said = subprocess.run(
        [sys.executable, "-v", "-c", "import module; print(module.value)"],
        env=os.environ | {"PYTHONPATH": str(image), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(said.stdout), f"matches {image / 'module.py'}" in said.stderr


def test_byte_code_of_an_image_is_used(image: Path) -> None:
    assert imported(image) == (1, True)


def test_a_source_that_is_changed_in_an_image_made_from_it_counts(image: Path) -> None:
    (image / "module.py").write_text("value = 2\n")  # as long as the old one
    assert imported(image) == (2, False)
