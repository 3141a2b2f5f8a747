"""A run directory belongs to one job; another one gets it only as onExisting says."""

from __future__ import annotations

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base import files
from qwensft_trainer.base.lease import Lease
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import EXIT_PERMANENT, Interrupted, PermanentError

from ..conftest import Scene


def leave_run_of(scene: Scene, uid: str) -> None:
    """Another job's directory: its marker, a checkpoint, and a file that no trainer has written."""
    (scene.run_directory / "train" / "1").mkdir(parents=True)
    (scene.run_directory / "notes.txt").write_text("mine")
    (scene.run_directory / workspace.MARKER).write_text(json.dumps({"uid": uid, "namespace": "team", "name": "old"}))


def marker_uid(scene: Scene) -> str:
    return str(json.loads((scene.run_directory / workspace.MARKER).read_text())["uid"])


def test_a_new_directory_is_marked_and_may_be_claimed_again(scene: Scene) -> None:
    workspace.claim(scene.run)
    workspace.claim(scene.run)
    workspace.require_ownership(scene.run)
    assert marker_uid(scene) == "uid-1"


def test_a_fresh_volume_with_lost_and_found_counts_as_empty(scene: Scene) -> None:
    (scene.run_directory / "lost+found").mkdir(parents=True)
    workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-1"


def test_another_runs_directory_is_refused_with_owner_and_fix(scene: Scene) -> None:
    leave_run_of(scene, "uid-0")
    with pytest.raises(PermanentError) as caught:
        workspace.claim(scene.run)
    assert caught.value.reason == "OutputExists"
    assert caught.value.exit_code == EXIT_PERMANENT
    for part in ("team/old (UID uid-0)", "spec.storage.path", "spec.storage.onExisting to Resume", "Overwrite"):
        assert part in caught.value.message


def test_files_without_a_marker_are_refused_too(scene: Scene) -> None:
    scene.run_directory.mkdir(parents=True)
    (scene.run_directory / "thesis.docx").write_text("")
    with pytest.raises(PermanentError, match="is not empty and carries no owner marker"):
        workspace.claim(scene.run)


def test_overwrite_deletes_nothing_where_no_run_was(scene: Scene) -> None:
    theirs = scene.run_directory / "data" / "measurements.csv"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("1,2")
    scene.document["onExisting"] = "Overwrite"
    with pytest.raises(PermanentError, match="Overwrite deletes only what runs made"):
        workspace.claim(scene.run)
    assert theirs.read_text() == "1,2"


def test_what_was_there_before_the_first_run_is_spared_by_a_later_overwrite(scene: Scene) -> None:
    theirs = scene.run_directory / "data" / "measurements.csv"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("1,2")
    scene.document["onExisting"] = "Resume"
    workspace.claim(scene.run)
    (scene.run_directory / "train" / "1").mkdir(parents=True)
    for uid, path in (("uid-2", "train"), ("uid-3", "merged")):
        scene.document["owner"]["uid"] = uid
        scene.document["onExisting"] = "Overwrite"
        workspace.claim(scene.run)
        assert not (scene.run_directory / path).exists()
        assert theirs.read_text() == "1,2"
        (scene.run_directory / "merged").mkdir()


@pytest.mark.parametrize("on_existing", ["Fail", "Resume", "Overwrite"])
def test_of_many_jobs_that_want_one_directory_at_once_one_gets_it(
    scene: Scene, on_existing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "Lease", functools.partial(Lease, poll=0.01))
    scene.document["onExisting"] = on_existing
    for number in range(6):
        scene.document["runDirectory"] = str(scene.root / "workspace" / f"shared-{number}")
        rivals = []
        for rival in range(4):
            scene.document["owner"] = {"uid": f"uid-{rival}", "namespace": "team", "name": "run"}
            rivals.append(scene.run)
        gate = threading.Barrier(len(rivals))

        def contend(rival: Run, gate: threading.Barrier = gate) -> str | None:
            gate.wait()
            try:
                workspace.claim(rival)
            except PermanentError:
                return None
            return rival.owner.uid

        with ThreadPoolExecutor(len(rivals)) as pool:
            won = [uid for uid in pool.map(contend, rivals) if uid is not None]
        assert marker_uid(scene) in won
        if on_existing == "Fail":
            assert len(won) == 1


def test_a_claim_that_was_cut_off_is_made_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_run_of(scene, "uid-0")
    scene.document["onExisting"] = "Overwrite"
    write = files.write_json

    def write_json(path: Path, value: Any) -> None:
        if path.name == workspace.MARKER:
            raise Interrupted("killed")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", write_json)
        with pytest.raises(Interrupted):
            workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-0"
    workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-1"


def test_resume_takes_the_directory_over_with_its_content(scene: Scene) -> None:
    leave_run_of(scene, "uid-0")
    scene.document["onExisting"] = "Resume"
    workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-1"
    assert (scene.run_directory / "train" / "1").is_dir()


def test_overwrite_removes_the_runs_files_and_no_others(scene: Scene) -> None:
    leave_run_of(scene, "uid-0")
    scene.document["onExisting"] = "Overwrite"
    workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-1"
    assert not (scene.run_directory / "train").exists()
    assert (scene.run_directory / "notes.txt").read_text() == "mine"


TRACKERS = {"runName": "support", "tensorboard": {}, "wandb": {"project": "ml", "mode": "offline"}}


def claim_as(scene: Scene, uid: str, trackers: dict[str, Any] | None = None, on_existing: str = "Overwrite") -> None:
    scene.document |= {"onExisting": on_existing, "trackers": trackers}
    scene.document["owner"]["uid"] = uid
    workspace.require_within(scene.run, scene.context.workspace)
    workspace.claim(scene.run)
    workspace.require_ownership(scene.run)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_somebody_calls_like_a_tracker_is_theirs_where_no_run_reports(scene: Scene, name: str) -> None:
    claim_as(scene, "uid-1")
    theirs = scene.run_directory / name
    theirs.write_text("a file")
    claim_as(scene, "uid-2")
    assert theirs.read_text() == "a file"
    theirs.unlink()
    theirs.symlink_to("/proc/self")
    claim_as(scene, "uid-3")
    assert theirs.is_symlink()
    theirs.unlink()
    theirs.mkdir()
    for number, trackers in enumerate([None, TRACKERS, TRACKERS, None]):  # one that reports adds to it
        claim_as(scene, f"uid-{number + 4}", trackers)
        assert theirs.is_dir()


@pytest.mark.parametrize("on_existing", ["Overwrite", "Resume"])
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_a_run_has_reported_there_is_overwritten(scene: Scene, name: str, on_existing: str) -> None:
    claim_as(scene, "uid-1", TRACKERS)
    (scene.run_directory / name).mkdir()
    claim_as(scene, "uid-2", TRACKERS, on_existing)
    (scene.run_directory / name).mkdir(exist_ok=True)
    claim_as(scene, "uid-3")
    assert not (scene.run_directory / name).exists()
    (scene.run_directory / name).mkdir()  # after that it is of somebody else
    claim_as(scene, "uid-4")
    assert (scene.run_directory / name).exists()


def test_a_marker_that_others_have_written_names_nothing_to_delete_but_directories_of_trackers(scene: Scene) -> None:
    leave_run_of(scene, "uid-0")
    (scene.run_directory.parent / "other").mkdir()
    marker = scene.run_directory / workspace.MARKER
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "trackers": ["../other", "notes.txt", 7]}))
    claim_as(scene, "uid-1")
    assert (scene.run_directory.parent / "other").exists()
    assert (scene.run_directory / "notes.txt").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_where_a_run_reports_there_is_a_directory(scene: Scene, name: str) -> None:
    claim_as(scene, "uid-1", TRACKERS)
    (scene.run_directory / name).write_text("a file")
    with pytest.raises(PermanentError, match=f"{name} is a file, where a run has a directory"):
        workspace.require_ownership(scene.run)
    (scene.run_directory / name).unlink()
    (scene.run_directory / name).symlink_to("/proc/self")
    with pytest.raises(PermanentError, match=f"{name} leads out of the volume"):
        workspace.require_within(scene.run, scene.context.workspace)


def test_overwrite_never_touches_the_jobs_own_work(scene: Scene) -> None:
    leave_run_of(scene, "uid-1")
    scene.document["onExisting"] = "Overwrite"
    workspace.claim(scene.run)
    assert (scene.run_directory / "train" / "1").is_dir()


def test_later_stages_refuse_a_volume_that_was_not_prepared_for_them(scene: Scene) -> None:
    with pytest.raises(PermanentError) as caught:
        workspace.require_ownership(scene.run)
    assert caught.value.reason == "PreparationMissing"
    leave_run_of(scene, "uid-0")
    with pytest.raises(PermanentError) as caught:
        workspace.require_ownership(scene.run)
    assert caught.value.reason == "OutputExists"


def test_a_directory_that_a_link_takes_to_another_volume_is_refused(scene: Scene) -> None:
    elsewhere = scene.root / "cache"
    elsewhere.mkdir()
    scene.run_directory.parent.mkdir(parents=True, exist_ok=True)
    scene.run_directory.symlink_to(elsewhere)
    with pytest.raises(PermanentError, match="leads out of the volume") as caught:
        workspace.require_within(scene.run, scene.context.workspace)
    assert caught.value.reason == "InvalidConfig"
    assert "spec.storage.path" in caught.value.message


def test_a_link_within_the_volume_leads_to_the_directory(scene: Scene) -> None:
    (scene.run_directory.parent / "real").mkdir(parents=True)
    scene.run_directory.symlink_to("real")
    workspace.require_within(scene.run, scene.context.workspace)
    workspace.claim(scene.run)
    assert marker_uid(scene) == "uid-1"


@pytest.mark.parametrize("name", ["train", "data", "merged", "prepare.json"])
def test_nor_may_anything_in_it_that_a_run_writes(scene: Scene, name: str) -> None:
    scene.run_directory.mkdir(parents=True)
    (scene.run_directory / name).symlink_to("/proc/self/environ")
    with pytest.raises(PermanentError, match=f"{name} leads out of the volume"):
        workspace.require_within(scene.run, scene.context.workspace)


def test_nor_may_the_place_of_the_merged_model(scene: Scene) -> None:
    scene.run_directory.mkdir(parents=True)
    (scene.run_directory / "out").symlink_to(scene.root)
    scene.document["merge"] = {"directory": str(scene.run_directory / "out" / "merged")}
    with pytest.raises(PermanentError, match="out/merged leads out of the volume"):
        workspace.require_within(scene.run, scene.context.workspace)


def test_the_model_may_be_a_link_into_the_cache(scene: Scene) -> None:
    scene.run_directory.mkdir(parents=True)
    (scene.run_directory / "model").symlink_to(scene.root / "cache")
    workspace.require_within(scene.run, scene.context.workspace)
