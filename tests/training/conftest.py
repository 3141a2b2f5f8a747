"""Without the trainer's dependencies there is nothing to run here: see docs/development.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("llamafactory") else ["test_*.py"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model, for all trainings the same."""
    from .tiny import write_model  # noqa: PLC0415  # torch is imported where there is one

    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return directory
