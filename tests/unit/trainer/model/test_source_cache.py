"""Jobs that share a cache download a model once, and each compares what is there with what the hub said."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from tests.hubs.fixtures import RunningHub

from qwensft_trainer.contract.errors import EXIT_PERMANENT, StageError
from qwensft_trainer.hubs.repository import HubFile
from qwensft_trainer.model import cache as model_cache
from qwensft_trainer.model import source as model_source

from ..conftest import Scene
from .obtaining import entries, failure, model_of, second_job, share


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
