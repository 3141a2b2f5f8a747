"""docs/tutorial-python.md, from the wheel to the last command: its shell as it stands, its Python as one program.

ADR 0188 says how.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from quickstart.cluster import choose
from quickstart.shell import REPOSITORY
from tests.unit.docs.shell_blocks import copy_of_repository

PAGE = REPOSITORY / "docs" / "tutorial-python.md"
PROGRAM = "tutorial.py"
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One block of code; `mark` is the comment above it."""

    mark: str
    language: str
    text: str


BLOCKS = [
    Block(match["mark"] or "", match["language"], match["text"]) for match in BLOCK.finditer(PAGE.read_text("utf-8"))
]


def test_every_block_of_the_page_is_run() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python"}
    assert {block.mark for block in BLOCKS} == {"run: client"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of the repository the page uses: building the wheel leaves files beside the client's sources."""
    return copy_of_repository(tmp_path, {"client", "examples"})


@pytest.fixture
def environment(kubeconfig: Path, namespace: str, tmp_path: Path) -> dict[str, str]:
    """The cluster's, with the tests' namespace in the context, and without this checkout on Python's path."""
    copy = tmp_path / "kubeconfig"
    shutil.copy(kubeconfig, copy)
    variables = choose().environment() | {"KUBECONFIG": str(copy), "PYTHONUNBUFFERED": "1"}
    variables.pop("PYTHONPATH", None)
    words = ["kubectl", "config", "set-context", "--current", "--namespace", namespace]
    subprocess.run(words, env=variables, check=True, capture_output=True)
    return variables


@pytest.mark.timeout(2000)
def test_the_tutorial_trains_a_model_and_tells_why_another_run_failed(
    checkout: Path, environment: dict[str, str]
) -> None:
    (checkout / PROGRAM).write_text("".join(block.text for block in BLOCKS if block.language == "python"))
    done = subprocess.run(
        ["bash", "-c", script()], cwd=checkout, env=environment, capture_output=True, text=True, timeout=1900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "109 rows" in done.stdout
    assert "refused: " in done.stdout
    assert "epochs and maxSteps both set the length of the training" in done.stdout
    assert re.search(r"^Succeeded after 40 steps, loss \d+\.\d+ → \d+\.\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^lowest loss: \d+\.\d+, at step \d+$", done.stdout, re.MULTILINE)
    assert "⟦" in done.stdout
    assert "failed: " in done.stdout
    assert re.search(r"^in short: InvalidDataset - \S", done.stdout, re.MULTILINE)


def script() -> str:
    """The page's shell in its order, with the program where the first block of it stands."""
    parts: list[str] = []
    for block in BLOCKS:
        text = block.text if block.language == "sh" else f"python {PROGRAM}\n"
        if text not in parts:
            parts.append(text)
    return "set -euo pipefail\n" + "".join(parts)
