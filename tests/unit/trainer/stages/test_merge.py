"""A merged model appears complete and verified, or not at all.

The streaming engine is the real one, in this process; transformers' names, LLaMA-Factory and the verification are stood
in for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwensft_trainer.base import files
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.contract.outputs import MANIFEST
from qwensft_trainer.merging import streaming
from qwensft_trainer.model import source

from .. import adapters
from ..conftest import Scene
from ..merging.safetensors import load, save
from .merges import BASE, KEY, NAMES, NORM, QUERY, Call, exports, learns, merged, rests, run, verifies


def test_the_model_is_the_bases_files_with_what_was_trained(trained: Scene, calls: Call) -> None:
    run(trained)
    assert np.array_equal(load(merged(trained) / NAMES[0])[QUERY], np.full((4, 6), 3))
    for name in (NAMES[1], source.INDEX, "tokenizer.json", "config.json"):
        assert (merged(trained) / name).read_bytes() == (trained.root / "model" / name).read_bytes()
    assert rests(trained) == []


def test_a_second_run_adds_what_it_has_trained_to_the_first_ones_model_once(trained: Scene, calls: Call) -> None:
    """Base, first and second adapter: none is applied twice, and of the first run nothing changes."""
    output = run(trained).outputs["merged"]
    before = {path.name: path.read_bytes() for path in merged(trained).iterdir()}
    second = Scene(trained.root, dict(trained.document), trained.train)
    second.document |= {
        "owner": {"uid": "uid-2", "namespace": "team", "name": "second"},
        "runDirectory": str(trained.root / "workspace" / "second-2"),
        "model": {
            "name": "Qwen/Qwen3-0.6B",
            "path": str(merged(trained)),
            "mergedBy": {"name": "support", "uid": "uid-1", "digest": output["digest"]},
        },
        "merge": {"directory": str(trained.root / "workspace" / "second-2" / "merged")},
    }
    workspace.claim(second.run)
    source.provide(second.run)
    shutil.copytree(trained.run_directory / "train", second.run_directory / "train")
    shutil.copy(trained.run_directory / "train.json", second.run_directory)
    assert run(second).outputs["merged"]["path"] == "second-2/merged"
    assert np.array_equal(load(merged(second) / NAMES[0])[QUERY], np.full((4, 6), 1 + 2 + 2))
    assert {path.name: path.read_bytes() for path in merged(trained).iterdir()} == before


def test_an_adapter_that_was_trained_on_is_added_to_the_base_once(trained: Scene, calls: Call) -> None:
    """What it has become is all that is added, to the last bit; what it was before is no part of it any more."""
    random = np.random.default_rng(5)
    base, a, b = (random.normal(size=shape).astype("<f4") for shape in ((4, 6), (1, 6), (4, 1)))
    save(trained.root / "model" / NAMES[0], {QUERY: base, NORM: np.ones(6)})
    before = adapters.continues(trained, shapes={"q_proj": (4, 6)})
    shutil.copytree(before, trained.run.adapter_directory)
    module = f"base_model.model.{QUERY.removesuffix('.weight')}"
    matrices = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save(trained.run_directory / "train" / "1" / "adapter_model.safetensors", matrices)
    run(trained)
    plain = base + np.float32(2) * (b @ a)  # alpha / r = 2
    assert load(merged(trained) / NAMES[0])[QUERY].tobytes() == plain.astype("<f4").tobytes()


def test_the_digest_of_the_training_is_made_here_once_and_kept(trained: Scene, calls: Call) -> None:
    record = trained.run_directory / "train.json"
    left = json.loads(record.read_text())
    del left["outputs"]["adapter"]["digest"]
    record.write_text(json.dumps(left))
    result = run(trained)
    adapter = result.outputs["adapter"]
    assert adapter["digest"] == files.manifest_digest(files.manifest_of(trained.run_directory / "train" / "1"))
    assert json.loads(record.read_text())["outputs"]["adapter"] == adapter
    assert run(trained).outputs == result.outputs


def test_a_record_of_another_run_that_came_meanwhile_stays(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = trained.run_directory / "train.json"
    left = json.loads(record.read_text())
    del left["outputs"]["adapter"]["digest"]
    record.write_text(json.dumps(left))
    before = record.read_text()
    digest = files.sha256_of_file

    def taken_over(path: Path) -> str:
        (trained.run_directory / ".qwensft-owner.json").write_text('{"uid": "uid-2", "namespace": "a", "name": "b"}')
        return digest(path)

    monkeypatch.setattr(files, "sha256_of_file", taken_over)
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "OutputExists"
    assert record.read_text() == before


def test_a_merge_writes_the_report_anew_beside_the_model_and_not_into_it(trained: Scene, calls: Call) -> None:
    outputs = run(trained).outputs
    path = trained.run_directory / "report.html"
    content = path.read_bytes()
    assert outputs["report"] == {
        "path": "support-1/report.html",
        "sizeBytes": len(content),
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
    }
    assert outputs["merged"]["digest"] in content.decode()
    assert path.parent == merged(trained).parent
    trained.document["merge"]["dtype"] = "bf16"
    again = run(trained).outputs["merged"]["digest"]
    assert again in path.read_text()
    assert outputs["merged"]["digest"] not in path.read_text()


def test_a_report_that_cannot_be_written_fails_no_merge(
    trained: Scene, calls: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained.run_directory / "report.html").write_text("somebody's own")
    assert set(run(trained).outputs) == {"adapter", "merged"}
    assert "warning: report.html is not written" in capsys.readouterr().out


def test_what_is_left_of_the_training_stands_in_the_report_as_a_warning(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifies(monkeypatch, {"tensors": 3, "kept": 0.2})
    message = run(trained).message
    assert message.startswith("only 20% of what training added is left")
    assert f"<li>{message}</li>" in (trained.run_directory / "report.html").read_text()


def test_the_manifest_lists_every_file(trained: Scene, calls: Call) -> None:
    output = run(trained).outputs["merged"]
    manifest = (merged(trained) / MANIFEST).read_bytes()
    assert output == {
        "path": "support-1/merged",
        "digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}",
        "sizeBytes": sum(path.stat().st_size for path in merged(trained).iterdir()),
    }
    listed = json.loads(manifest)
    assert listed.keys() == {path.name for path in merged(trained).iterdir()} - {MANIFEST}
    assert streaming.JOURNAL not in listed
    for name, entry in listed.items():
        raw = (merged(trained) / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(raw).hexdigest(), "sizeBytes": len(raw)}


def test_weights_are_hashed_while_they_are_written(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    digest = files.sha256_of_file

    def sha256_of_file(path: Path) -> str:
        hashed.append(path.name)
        return digest(path)

    monkeypatch.setattr(files, "sha256_of_file", sha256_of_file)
    run(trained)
    assert hashed
    assert not set(hashed) & set(NAMES)


def test_a_merge_done_for_the_same_inputs_is_not_done_again(trained: Scene, calls: Call) -> None:
    first = run(trained)
    asked = len(calls.asked)
    assert run(trained) == first
    assert len(calls.asked) == asked


def test_a_merged_model_that_was_deleted_is_made_again(trained: Scene, calls: Call) -> None:
    first = run(trained)
    for path in merged(trained).iterdir():
        path.unlink()
    assert run(trained).outputs["merged"] == first.outputs["merged"]
    assert (merged(trained) / NAMES[0]).is_file()


@pytest.mark.parametrize(
    ("setting", "value", "engine"),
    [
        ("dtype", "bf16", {"dtype": "bf16", "shard_bytes": None}),
        ("shard_size", 2, {"dtype": None, "shard_bytes": 2 * 10**9}),
    ],
)
def test_settings_reach_the_engine_and_make_another_model(
    trained: Scene, calls: Call, setting: str, value: Any, engine: Mapping[str, Any]
) -> None:
    run(trained)
    record = (trained.run_directory / "merge.json").read_bytes()
    trained.document["merge"][setting] = value
    run(trained)
    name, asked = calls.asked[2]
    assert name == "plan"
    assert engine.items() <= asked.items()
    assert json.loads(record)["inputs"] != json.loads((trained.run_directory / "merge.json").read_bytes())["inputs"]
    assert json.loads(record)["output"]["digest"] != run(trained).outputs["merged"]["digest"]


def test_llamafactorys_export_is_laid_out_as_the_base(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports(monkeypatch)
    run(trained)
    trained.document["merge"]["engine"] = "llamafactory"
    result = run(trained)
    assert [name for name, _ in calls.asked[2:]] == ["export", "plan", "write_and_tell"]
    assert np.array_equal(load(merged(trained) / NAMES[1])[KEY], np.full((4, 6), 2))
    assert json.loads((trained.run_directory / "merge.json").read_text())["engine"] == "llamafactory"
    assert result.message == ""
    assert rests(trained) == []


def test_what_streaming_does_not_know_is_left_to_llamafactory_and_told(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports(monkeypatch)
    learns(trained, bias="all")
    result = run(trained)
    assert result.message == ("merged by LLaMA-Factory, as the streaming engine does not know an adapter with bias")
    assert json.loads((trained.run_directory / "merge.json").read_text())["engine"] == "llamafactory"
    assert run(trained).message == result.message


def test_llamafactory_does_not_merge_in_another_dtype(trained: Scene, calls: Call) -> None:
    trained.document["merge"] |= {"engine": "llamafactory", "dtype": "fp32"}
    with pytest.raises(PermanentError, match=r"set spec\.merge\.dtype to auto, or spec\.merge\.engine to streaming"):
        run(trained)
    assert not calls.asked
    assert rests(trained) == []


@pytest.mark.parametrize(("size", "is_told"), [(5, True), (2, False)])
def test_a_size_of_files_that_an_older_operator_asks_for_is_told_to_be_left(
    trained: Scene, calls: Call, capsys: pytest.CaptureFixture[str], size: int, is_told: bool
) -> None:
    run(trained, export_size=size)
    assert ("export_size: 5 of an older operator is not used" in capsys.readouterr().out) is is_told
    assert (merged(trained) / NAMES[1]).is_file()


@pytest.mark.parametrize(("norm", "asked"), [("BF16", "bfloat16"), ("F32", "float32")])
def test_llamafactory_gets_the_base_in_a_dtype_in_which_none_of_its_weights_loses_anything(
    trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch, norm: str, asked: str
) -> None:
    for name, tensors in BASE.items():
        kinds = {NORM: norm}
        save(trained.root / "model" / name, {tensor: (kinds.get(tensor, "BF16"), it) for tensor, it in tensors.items()})
    trained.document["merge"]["engine"] = "llamafactory"
    dtypes = exports(monkeypatch)
    run(trained)
    assert dtypes == [asked]


def test_little_that_is_left_of_training_is_told(trained: Scene, calls: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    verifies(monkeypatch, {"tensors": 3, "kept": 0.25})
    assert run(trained).message.startswith("only 25% of what training added is left after rounding")
