"""A merge that is refused, breaks or is interrupted leaves the old model, no rest, and a way on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.merging import adapter
from qwensft_trainer.model import source
from qwensft_trainer.stages import merge

from ..conftest import Scene
from ..merging.safetensors import save
from .merges import NAMES, QUERY, Call, learns, merged, rests, run, verifies


def test_a_refused_merge_leaves_the_old_model_and_no_rest(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(trained)
    before = (merged(trained) / NAMES[0]).read_bytes()
    verifies(monkeypatch, PermanentError("MergeVerificationFailed", "no"))
    learns(trained, lora_alpha=4)
    trained.document["merge"]["shard_size"] = 1
    with pytest.raises(PermanentError):
        run(trained)
    assert (merged(trained) / NAMES[0]).read_bytes() == before
    assert rests(trained) == []


def test_numbers_that_cannot_be_written_leave_no_rest(trained: Scene, calls: Call) -> None:
    module = f"base_model.model.{QUERY.removesuffix('.weight')}"
    matrices = {f"{module}.lora_A.weight": np.full((1, 6), np.nan), f"{module}.lora_B.weight": np.ones((4, 1))}
    save(trained.run_directory / "train" / "1" / adapter.WEIGHTS, matrices)
    with pytest.raises(PermanentError, match="training diverged"):
        run(trained)
    assert rests(trained) == []
    assert not merged(trained).exists()


def interrupted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verification is killed, when the weights are written."""
    verifies(monkeypatch, StageError("OutOfMemory", "killed"))
    with pytest.raises(StageError):
        run(scene)
    assert rests(scene) == [".merged.partial"]
    assert not merged(scene).exists()
    verifies(monkeypatch, {"tensors": 3})


def test_an_interrupted_merge_goes_on(trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(trained, monkeypatch)
    partial = trained.run_directory / ".merged.partial"
    written = {name: (partial / name).stat().st_mtime_ns for name in NAMES}
    run(trained)
    assert {name: (merged(trained) / name).stat().st_mtime_ns for name in NAMES} == written
    assert rests(trained) == []


def test_a_merge_of_other_inputs_begins_anew(trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(trained, monkeypatch)
    (trained.run_directory / ".merged.partial-export").mkdir()
    trained.document["merge"]["shard_size"] = 1
    run(trained)
    assert [path.name for path in merged(trained).glob("*.safetensors")] == [source.SINGLE]
    assert not (merged(trained) / source.INDEX).exists()
    assert rests(trained) == []


def test_a_model_whose_files_another_pod_took_away_is_not_published(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(_run: Any, _merge: Any, _trained: Any, merged: Path, *_: Any, **__: Any) -> dict[str, Any]:
        (merged / "config.json").unlink()
        return {"tensors": 1}

    monkeypatch.setattr(merge, "_verify", verify)
    with pytest.raises(StageError, match=r"config\.json vanished from .*: another pod writes there"):
        run(trained)
    assert not (trained.run_directory / "merged").exists()


def test_a_directory_of_other_files_is_never_replaced(trained: Scene, calls: Call) -> None:
    merged(trained).mkdir()
    (merged(trained) / "thesis.docx").touch()
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "OutputExists"
    assert not calls.asked


@pytest.mark.parametrize("name", ["", "data", "train/merged", "report.html", "train.json", ".qwensft-owner.json"])
def test_what_the_run_itself_keeps_is_never_replaced(trained: Scene, calls: Call, name: str) -> None:
    trained.document["merge"]["directory"] = str(trained.run_directory / name)
    with pytest.raises(PermanentError, match=r"spec\.merge\.path .* choose another directory"):
        run(trained)


def test_merging_before_training_is_refused(trained: Scene, calls: Call) -> None:
    (trained.run_directory / "train.json").unlink()
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "TrainingMissing"


def test_a_quantised_base_is_refused_before_the_merge(trained: Scene, calls: Call) -> None:
    config = {"model_type": "qwen3", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (trained.root / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "InvalidModel"
    assert not calls.asked
