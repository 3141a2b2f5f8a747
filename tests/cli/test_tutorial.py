"""docs/tutorial-cli.md as a new user: from the wheels to a model on this machine, each output as the page shows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from quickstart.cluster import choose
from tests.unit.docs import recorded_blocks
from tests.unit.docs.shell_blocks import copy_of_repository

from .recording import TUTORIAL

_BETWEEN = "@@ the next block @@"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of the repository the page uses: building wheels leaves files beside their sources."""
    return copy_of_repository(tmp_path / "checkout", {"client", "operator", "trainer-image", "examples"})


@pytest.fixture
def environment(context: Path) -> dict[str, str]:
    """The cluster's, without this checkout on Python's path."""
    variables = choose().environment() | {"KUBECONFIG": str(context), "COLUMNS": "100"}
    variables.pop("PYTHONPATH", None)
    return variables


@pytest.mark.timeout(3000)
def test_the_tutorial_prints_what_it_shows(checkout: Path, environment: dict[str, str]) -> None:
    commands = recorded_blocks.commands(TUTORIAL.read_text(encoding="utf-8"))
    script = "exec 2>&1\nset -euo pipefail\n" + f"echo '{_BETWEEN}'\n".join(text for text, _ in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=2900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for (_, name), output in zip(commands, done.stdout.split(f"{_BETWEEN}\n"), strict=True):
        if name:
            recorded_blocks.compare(TUTORIAL, name, output)
