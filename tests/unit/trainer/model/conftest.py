"""A hub with one model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hubs.fixtures import HUBS, RunningHub, running

from ..conftest import Scene, write_model


@pytest.fixture(params=["huggingFace", "modelScope"])
def served(
    scene: Scene, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[RunningHub]:
    """A hub with one model, which the run is to download."""
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope-cache"))
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    model = tmp_path / "served" / "models" / "Qwen" / "Qwen3-0.6B"
    model.parent.mkdir(parents=True)
    write_model(model)
    (model / "pytorch_model.bin").write_bytes(bytes(10_000))
    scene.run_directory.mkdir()
    with running(HUBS[request.param], tmp_path / "served") as hub:
        scene.document["model"] |= {
            "path": str(scene.run_directory / "model"),
            "download": {"hub": request.param, "repo": "Qwen/Qwen3-0.6B", "revision": None, "endpoint": hub.url},
        }
        yield hub
