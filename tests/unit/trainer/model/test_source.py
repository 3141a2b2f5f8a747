"""A model directory is checked for everything training needs before anything reads it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hubs.fixtures import HUBS, RunningHub, running

from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE, StageError
from qwensft_trainer.hubs.repository import HubFile
from qwensft_trainer.model import cache as model_cache
from qwensft_trainer.model import source as model_source

from ..conftest import Scene, safetensors, write_model


def failure(scene: Scene) -> StageError:
    with pytest.raises(StageError) as caught:
        model_source.provide(scene.run)
    return caught.value


def test_a_complete_model_passes(scene: Scene) -> None:
    model_source.provide(scene.run)


def test_vocabulary_and_merges_are_a_tokenizer_too(scene: Scene) -> None:
    model = scene.root / "model"
    (model / "tokenizer.json").unlink()
    (model / "vocab.json").touch()
    (model / "merges.txt").touch()
    model_source.provide(scene.run)


def test_all_missing_parts_are_named_with_the_field_to_set(scene: Scene) -> None:
    model = scene.root / "model"
    for path in list(model.iterdir()):
        path.unlink()
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    for part in ("config.json", "a tokenizer", "model.safetensors", "spec.model.source.volume"):
        assert part in error.message


def test_a_path_without_a_directory_is_named(scene: Scene) -> None:
    scene.document["model"]["path"] = str(scene.root / "modle")
    assert "There is no model directory" in failure(scene).message
    assert "modle" in failure(scene).message


def test_a_missing_shard_of_the_index_is_named(scene: Scene) -> None:
    model = scene.root / "model"
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "lacks model-00002-of-00002.safetensors" in failure(scene).message


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[:-1], "is cut off"),
        (lambda data: data[:20], "is not a readable safetensors file"),
        (lambda data: b"<html>not found</html>", "is not a readable safetensors file"),
        (lambda data: b"", "is not a readable safetensors file"),
    ],
)
def test_a_damaged_weight_file_is_found_by_its_header(
    scene: Scene, damage: Callable[[bytes], bytes], expected: str
) -> None:
    (scene.root / "model" / "model.safetensors").write_bytes(damage(safetensors({"weight": (64, 64)})))
    assert expected in failure(scene).message


def test_a_file_beside_the_weights_that_lies_elsewhere_is_refused(scene: Scene) -> None:
    (scene.root / "model" / "README.md").symlink_to("/proc/self/environ")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "README.md leads out of" in error.message


def test_a_snapshot_of_the_hubs_own_cache_links_to_files_of_its_volume(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = scene.root / "volume"
    (volume / "snapshots").mkdir(parents=True)
    (scene.root / "model").rename(volume / "blobs")
    (volume / "snapshots" / "abc").mkdir()
    for path in (volume / "blobs").iterdir():
        (volume / "snapshots" / "abc" / path.name).symlink_to(f"../../blobs/{path.name}")
    monkeypatch.setattr(model_source, "MOUNT", volume)
    scene.document["model"]["path"] = str(volume / "snapshots" / "abc")
    model_source.provide(scene.run)
    (volume / "latest").symlink_to("/usr/lib")
    scene.document["model"]["path"] = str(volume / "latest")
    assert "latest leads out of" in failure(scene).message


def test_an_adapter_that_transformers_would_put_on_the_base_is_refused(scene: Scene) -> None:
    (scene.root / "model" / "adapter_config.json").write_text("{}")
    message = failure(scene).message
    assert "holds adapter_config.json: transformers 5.5.4 would put that adapter on the model" in message
    assert "Merge it into the model first" in message


def test_a_pipe_beside_the_weights_is_not_waited_for(scene: Scene) -> None:
    os.mkfifo(scene.root / "model" / "tokenizer_config.json")
    assert "tokenizer_config.json is neither a file nor a directory" in failure(scene).message


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/model/model.safetensors", "model.bin", 7, None])
def test_an_index_names_weights_of_its_own_directory(scene: Scene, name: object) -> None:
    (scene.root / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "names weights that are no .safetensors file in its directory" in failure(scene).message


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


def change(served: RunningHub) -> None:
    """The hub's branch moves on."""
    model = served.root / "models" / "Qwen" / "Qwen3-0.6B"
    (model / "model.safetensors").write_bytes(safetensors({"weight": (8, 8)}))


def model_of(scene: Scene) -> Path:
    return scene.run_directory / "model"


def share(scene: Scene) -> Path:
    """Let the run use a cache volume."""
    scene.document["model"]["cache"] = str(scene.root / "cache")
    return scene.root / "cache"


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*/Qwen--Qwen3-0.6B/*") if not path.name.startswith(".")]


def test_a_downloaded_model_is_complete_without_other_formats(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    names = {path.name for path in model_of(scene).iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", ".qwensft-model.json"}


def test_a_downloaded_model_is_not_asked_for_again(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    asked = len(served.requests)
    model_source.provide(scene.run)
    assert len(served.requests) == asked


def test_a_download_appears_complete_or_not_at_all(scene: Scene, served: RunningHub) -> None:
    served.fault(status=404, path="config.json", times=100)
    error = failure(scene)
    assert error.exit_code == EXIT_RETRYABLE
    assert not model_of(scene).exists()
    served.fault()
    model_source.provide(scene.run)
    assert (model_of(scene) / "config.json").is_file()


def test_a_run_keeps_the_commit_it_began_with(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    before = (model_of(scene) / "model.safetensors").read_bytes()
    change(served)
    model_source.provide(scene.run)
    assert (model_of(scene) / "model.safetensors").read_bytes() == before


def test_a_run_whose_commit_is_to_be_had_no_longer_is_told_so(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    change(served)
    shutil.rmtree(model_of(scene))
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "spec.model.source.huggingFace.revision" in error.message or "has changed on the hub" in error.message


def test_a_file_that_went_missing_is_fetched_alone(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    (model_of(scene) / "tokenizer.json").unlink()
    served.requests.clear()
    model_source.provide(scene.run)
    assert (model_of(scene) / "tokenizer.json").is_file()
    assert served.asked_for("tokenizer.json")
    assert not served.asked_for("model.safetensors")


def test_a_cached_model_is_linked_into_the_run(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    assert model_of(scene).readlink() == entry
    assert entry.parent.parent.name == scene.document["model"]["download"]["hub"]
    assert len(entry.name) == 40


def test_a_second_job_downloads_nothing(scene: Scene, served: RunningHub) -> None:
    share(scene)
    model_source.provide(scene.run)
    served.requests.clear()
    scene.document |= {"runDirectory": str(scene.root / "workspace" / "second")}
    scene.document["model"]["path"] = str(scene.run_directory / "model")
    model_source.provide(scene.run)
    assert model_of(scene).is_symlink()
    assert not [line for line in served.requests if "resolve" in line or "_lfs" in line or "FilePath" in line]


def test_a_stale_link_is_repaired(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    model_of(scene).unlink()
    model_of(scene).symlink_to(cache / "gone")
    model_source.provide(scene.run)
    assert (model_of(scene) / "config.json").is_file()


def test_an_emptied_cache_is_filled_again_with_the_same_commit(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    before = entries(cache)
    shutil.rmtree(cache)
    model_source.provide(scene.run)
    assert entries(cache) == before


def test_training_on_an_emptied_cache_is_refused_with_the_way_back(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    shutil.rmtree(cache)
    with pytest.raises(StageError) as caught:
        model_source.require(scene.run)
    assert (caught.value.reason, caught.value.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    for part in ("gone from the cache volume", "onExisting: Resume", scene.run_directory.name):
        assert part in caught.value.message


def test_an_entry_that_lost_a_file_is_mended_in_its_place(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    (entry / "config.json").write_text("{}")  # another size than the hub's
    served.requests.clear()
    model_source.provide(scene.run)
    assert json.loads((entry / "config.json").read_text()) == {"model_type": "qwen3"}
    assert not served.asked_for("model.safetensors")


def second_job(scene: Scene) -> None:
    scene.document |= {"runDirectory": str(scene.root / "workspace" / "second")}
    scene.document["model"]["path"] = str(scene.run_directory / "model")


def test_an_entry_that_changed_without_another_size_is_mended_before_another_job_reads_it(
    scene: Scene, served: RunningHub
) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    whole = (entry / "model.safetensors").read_bytes()
    (entry / "model.safetensors").write_bytes(whole[:-1] + b"!")
    second_job(scene)
    served.requests.clear()
    model_source.provide(scene.run)
    assert (entry / "model.safetensors").read_bytes() == whole
    assert model_of(scene).readlink() == entry
    assert not served.asked_for("config.json")


def test_the_hubs_checksums_count_where_it_is_asked_not_those_beside_the_files(
    scene: Scene, served: RunningHub
) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    whole = (entry / "model.safetensors").read_bytes()
    forged = whole[:-1] + b"!"
    (entry / "model.safetensors").write_bytes(forged)
    manifest = json.loads((entry / ".qwensft-model.json").read_text())
    manifest["files"]["model.safetensors"] |= {"sha256": hashlib.sha256(forged).hexdigest(), "gitSha1": None}
    (entry / ".qwensft-model.json").write_text(json.dumps(manifest))
    second_job(scene)
    model_source.provide(scene.run)
    assert (entry / "model.safetensors").read_bytes() == whole


def test_a_damaged_entry_of_a_full_commit_needs_the_hub(scene: Scene, served: RunningHub) -> None:
    if scene.document["model"]["download"]["hub"] != "huggingFace":
        return
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    (entry / "config.json").write_text((entry / "config.json").read_text().replace("qwen3", "qwen2"))
    second_job(scene)
    scene.document["model"]["download"]["revision"] = entry.name
    model_source.provide(scene.run)
    assert json.loads((entry / "config.json").read_text()) == {"model_type": "qwen3"}


def test_links_in_a_cache_lead_no_download_elsewhere(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    theirs = scene.root / "theirs"
    theirs.write_text("mine")
    for name in ("config.json", "model.safetensors", "model.safetensors.part"):
        (entry / name).unlink(missing_ok=True)
        (entry / name).symlink_to(theirs)
    second_job(scene)
    model_source.provide(scene.run)
    assert theirs.read_text() == "mine"
    assert not (entry / "config.json").is_symlink()
    shutil.rmtree(entry)
    (scene.root / "elsewhere").mkdir()
    entry.symlink_to(scene.root / "elsewhere")
    assert "leads out of the cache volume" in failure(scene).message
    assert list((scene.root / "elsewhere").iterdir()) == []


def test_a_download_is_not_continued_in_a_directory_elsewhere(scene: Scene, served: RunningHub) -> None:
    shared = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(shared)
    theirs = scene.root / "theirs"
    shutil.copytree(entry, theirs)  # another run's model, say, of the same commit
    (theirs / "notes.txt").write_text("mine")
    shutil.rmtree(entry)
    entry.with_name(f".{entry.name}.partial").symlink_to(theirs)
    second_job(scene)
    model_source.provide(scene.run)
    assert (theirs / "notes.txt").read_text() == "mine"
    assert entry.is_dir()
    assert not entry.is_symlink()


def test_a_file_that_another_pod_has_taken_away_to_mend_it_does_not_match(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    entry.mkdir()
    (entry / "config.json").write_text("{}")
    kept = HubFile("config.json", 2, sha256=hashlib.sha256(b"{}").hexdigest())
    assert model_cache.keep_what_matches(entry, [kept])
    assert not model_cache.keep_what_matches(entry, [kept, HubFile("model.safetensors", 9, sha256="0" * 64)])
    assert [path.name for path in entry.iterdir()] == ["config.json"]


def test_a_manifest_that_names_files_elsewhere_is_none(scene: Scene, served: RunningHub) -> None:
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    others = cache / "others"
    others.write_text("somebody's")
    manifest = json.loads((entry / ".qwensft-model.json").read_text())
    manifest["files"]["../../../others"] = {"size": len("somebody's"), "sha256": "0" * 64, "gitSha1": None}
    (entry / ".qwensft-model.json").write_text(json.dumps(manifest))
    second_job(scene)
    model_source.provide(scene.run)
    assert others.read_text() == "somebody's"
    assert "../../../others" not in json.loads((entry / ".qwensft-model.json").read_text())["files"]


def test_a_run_that_had_a_model_of_its_own_may_go_on_with_the_cache(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    share(scene)
    model_source.provide(scene.run)
    assert not model_of(scene).is_symlink()
    shutil.rmtree(model_of(scene))
    model_source.provide(scene.run)
    assert model_of(scene).is_symlink()


def test_another_revision_in_the_same_directory_is_another_model(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    change(served)
    (served.root / "models" / "Qwen" / "Qwen3-0.6B" / ".revisions").write_text("v2\n")
    scene.document["model"]["download"]["revision"] = "v2"
    model_source.provide(scene.run)
    assert (model_of(scene) / "model.safetensors").read_bytes() == safetensors({"weight": (8, 8)})


def test_a_full_commit_in_the_cache_needs_no_hub(scene: Scene, served: RunningHub) -> None:
    if scene.document["model"]["download"]["hub"] != "huggingFace":
        return
    cache = share(scene)
    model_source.provide(scene.run)
    (entry,) = entries(cache)
    scene.document |= {"runDirectory": str(scene.root / "workspace" / "second")}
    scene.document["model"] |= {"path": str(scene.run_directory / "model")}
    scene.document["model"]["download"] |= {"revision": entry.name, "endpoint": "http://127.0.0.1:9"}
    model_source.provide(scene.run)
    assert model_of(scene).readlink() == entry


def test_the_token_of_the_environment_opens_a_private_model(
    scene: Scene, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-0.6B" / ".private").write_text("good-token\n")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert f"spec.model.source.{scene.document['model']['download']['hub']}.tokenSecretRef" in error.message
    assert "spec.model.name" in error.message
    monkeypatch.setenv("HF_TOKEN", "good-token\n")  # as a Secret made from a file has it
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "good-token\n")
    model_source.provide(scene.run)
    assert (model_of(scene) / "config.json").is_file()


def test_a_token_that_no_header_can_carry_is_refused_before_the_hub_is_asked(
    scene: Scene, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "first-half\nsecond-half")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "first-half\nsecond-half")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert f"spec.model.source.{scene.document['model']['download']['hub']}.tokenSecretRef" in error.message
    assert "half" not in error.message
    assert served.requests == []
