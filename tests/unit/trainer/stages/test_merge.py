"""A merged model appears complete and verified, or not at all; LLaMA-Factory and the verification are stood in for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.contract.stage import Result
from qwensft_trainer.merging.files import MANIFEST, untie_embeddings
from qwensft_trainer.stages import merge

from ..conftest import Scene, safetensors


class Export:
    """Writes a model of one file; `asked` holds the arguments of every export."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.weights = "merged weights"

    def __call__(self, completed: Mapping[str, Any]) -> None:
        self.asked.append(completed)
        directory = Path(completed["export_dir"])
        directory.mkdir()
        (directory / "model.safetensors").write_text(self.weights)


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Export:
    fake = Export()
    monkeypatch.setattr("qwensft_trainer.merging.export.export", fake)
    monkeypatch.setattr(merge, "_verify", lambda *_, **__: {"tensors": 1})
    return fake


@pytest.fixture
def trained(scene: Scene) -> Scene:
    workspace.claim(scene.run)
    (scene.run_directory / "train" / "1").mkdir(parents=True)
    outputs = {"adapter": {"path": "support-1/train/1", "digest": "sha256:1", "sizeBytes": 1}}
    (scene.run_directory / "train.json").write_text(json.dumps({"directory": "train/1", "outputs": outputs}))
    (scene.root / "model" / "vocab.json").write_text("{}")
    scene.document["merge"] = {"directory": str(scene.run_directory / "merged")}
    return scene


def run(scene: Scene, **export_arguments: Any) -> Result:
    context = scene.context
    (context.config / "export.yaml").write_text(
        yaml.safe_dump({"template": "qwen3", "export_size": 2} | export_arguments)
    )
    return merge.main(context)


def test_the_output_says_where_how_large_and_which(trained: Scene, export: Export) -> None:
    output = run(trained).outputs["merged"]
    directory = trained.run_directory / "merged"
    manifest = (directory / MANIFEST).read_bytes()
    assert output["path"] == "support-1/merged"
    assert output["digest"] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    assert output["sizeBytes"] == sum(path.stat().st_size for path in directory.iterdir())
    files = json.loads(manifest)
    assert files["model.safetensors"]["sha256"] == hashlib.sha256(b"merged weights").hexdigest()
    assert files.keys() == {path.name for path in directory.iterdir()} - {MANIFEST}


def test_tokenizer_files_the_export_leaves_out_come_from_the_base(trained: Scene, export: Export) -> None:
    run(trained)
    assert (trained.run_directory / "merged" / "vocab.json").read_text() == "{}"


def test_the_dtype_is_the_bases_unless_it_is_chosen(trained: Scene, export: Export) -> None:
    run(trained)
    (trained.root / "model" / "config.json").write_text('{"torch_dtype": "float16"}')
    run(trained)
    trained.document["merge"]["dtype"] = "fp32"
    run(trained)
    assert [asked["infer_dtype"] for asked in export.asked] == ["bfloat16", "float16", "float32"]


def test_a_merge_done_for_the_same_inputs_is_not_done_again(trained: Scene, export: Export) -> None:
    first = run(trained)
    assert run(trained).outputs == first.outputs
    assert len(export.asked) == 1


def test_changed_arguments_replace_the_merged_model(trained: Scene, export: Export) -> None:
    first = run(trained).outputs["merged"]
    export.weights = "other weights"
    second = run(trained, export_size=4).outputs["merged"]
    assert second["digest"] != first["digest"]
    assert (trained.run_directory / "merged" / "model.safetensors").read_text() == "other weights"


def test_a_merged_model_that_was_deleted_is_made_again(trained: Scene, export: Export) -> None:
    first = run(trained)
    (trained.run_directory / "merged" / MANIFEST).unlink()
    (trained.run_directory / "merged" / "model.safetensors").unlink()
    (trained.run_directory / "merged" / "vocab.json").unlink()
    assert run(trained).outputs == first.outputs
    assert len(export.asked) == 2


def test_a_refused_merge_leaves_the_old_model_and_no_rest(
    trained: Scene, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(trained)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermanentError("MergeVerificationFailed", "no")

    monkeypatch.setattr(merge, "_verify", refuse)
    export.weights = "bad weights"
    with pytest.raises(PermanentError):
        run(trained, export_size=4)
    assert (trained.run_directory / "merged" / "model.safetensors").read_text() == "merged weights"
    assert not [path for path in trained.run_directory.iterdir() if path.name.startswith(".merged")]


def test_a_directory_of_other_files_is_never_replaced(trained: Scene, export: Export) -> None:
    (trained.run_directory / "merged").mkdir()
    (trained.run_directory / "merged" / "thesis.docx").touch()
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "OutputExists"
    assert not export.asked


@pytest.mark.parametrize("name", ["", "data", "train"])
def test_the_runs_own_directories_are_never_replaced(trained: Scene, export: Export, name: str) -> None:
    trained.document["merge"]["directory"] = str(trained.run_directory / name)
    with pytest.raises(PermanentError, match="choose another directory"):
        run(trained)


def test_merging_before_training_is_refused(trained: Scene, export: Export) -> None:
    (trained.run_directory / "train.json").unlink()
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "TrainingMissing"


@pytest.mark.parametrize("nested", [False, True])
def test_embeddings_that_training_took_apart_are_declared_so(tmp_path: Path, *, nested: bool) -> None:
    tied: dict[str, Any] = {"tie_word_embeddings": True}
    config = tied | ({"text_config": dict(tied)} if nested else {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(safetensors({"model.embed_tokens.weight": (2, 2)}))
    untie_embeddings(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config
    both = {"model.embed_tokens.weight": (2, 2), "lm_head.weight": (2, 2)}
    (tmp_path / "model.safetensors").write_bytes(safetensors(both))
    untie_embeddings(tmp_path)
    assert "true" not in (tmp_path / "config.json").read_text()


def test_a_quantised_base_is_refused_before_the_export(trained: Scene, export: Export) -> None:
    config = {"model_type": "qwen3", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (trained.root / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PermanentError) as caught:
        run(trained)
    assert caught.value.reason == "InvalidModel"
    assert not export.asked
