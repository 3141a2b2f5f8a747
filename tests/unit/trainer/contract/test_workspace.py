"""A run directory belongs to one job; another one gets it only as onExisting says."""

from __future__ import annotations

import json

import pytest

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError

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
