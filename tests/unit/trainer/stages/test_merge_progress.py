"""The merge stage serves the bytes that its engine tells, and reports them at the end; the engine is stood in for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base import metrics_server
from qwensft_trainer.base.files import write_json
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.stage import PROGRESS_FILE
from qwensft_trainer.merging import beside, engines
from qwensft_trainer.merging.engines import Made
from qwensft_trainer.merging.plan import Plan, Shard, Step
from qwensft_trainer.merging.weights import Tensor
from qwensft_trainer.stages import merge

from ..conftest import Scene


@pytest.fixture
def trained(scene: Scene) -> Scene:
    workspace.claim(scene.run)
    (scene.run_directory / "train" / "1").mkdir(parents=True)
    (scene.run_directory / "train.json").write_text(json.dumps({"directory": "train/1", "outputs": {}}))
    scene.document["merge"] = {"directory": str(scene.run_directory / "merged")}
    (scene.context.config / "export.yaml").write_text("template: qwen3")
    return scene


def test_the_bytes_are_served_while_it_writes_and_reported_at_the_end(
    trained: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Figures] = []
    seen: list[str] = []

    def make(*_: Any, directory: Path, progress: Path, **__: Any) -> Made:
        for told in ({}, {"bytesDone": 4, "bytesTotal": 8}):
            if told:
                write_json(progress, told)
            seen.append(metrics_server.render(served[0]).decode())
        (directory / "model.safetensors").write_bytes(bytes(8))
        tensor = Tensor(path=directory, name="weight", dtype="F32", shape=(2,), start=0, size=8)
        step = Step(name="weight", dtype="F32", shape=(2,), source=tensor)
        plan = Plan(shards=(Shard(name="model.safetensors", steps=(step,), metadata={}),))
        return Made("streaming", plan, {"model.safetensors": {"sha256": "0", "sizeBytes": 8}})

    monkeypatch.setattr(metrics_server, "start", lambda _, figures: served.append(figures))
    monkeypatch.setattr(engines, "make", make)
    monkeypatch.setattr(beside, "write", lambda *_: [])
    monkeypatch.setattr(beside, "missing", lambda *_: [])
    monkeypatch.setattr(merge, "_verify", lambda *_, **__: {"tensors": 1})
    write_json(trained.context.scratch / PROGRESS_FILE, {"bytesDone": 1, "bytesTotal": 1})

    assert merge.main(trained.context).metrics == {"bytesDone": 8, "bytesTotal": 8}
    assert "bytes" not in seen[0], "what an earlier process has left"
    assert 'qwensft_merge_info{attempt="' in seen[0]
    assert "qwensft_merge_bytes_done 4.0" in seen[1]
    assert merge.main(trained.context).metrics == {"bytesDone": 8, "bytesTotal": 8}, "merged already"
    assert len(seen) == 2
