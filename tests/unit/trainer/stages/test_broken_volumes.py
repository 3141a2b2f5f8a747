"""Whatever stands on a volume in the place of what a run needs: the message names it and the fix, and nothing hangs.

`broken.places()` has the kinds. First the names that a run knows before it begins, then what a stage meets on its way,
then the file system itself: its rights, mounts and names. Those run a stage in a process of its own.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwensft_trainer import cli
from qwensft_trainer.base import files
from qwensft_trainer.base.lease import Lease
from qwensft_trainer.contract import places, workspace
from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError, StageError
from qwensft_trainer.data import normalise, preview
from qwensft_trainer.stages import merge, prepare, train

from .. import broken, models
from ..conftest import Scene
from .conftest import Torchrun

GOOD = {"instruction": "Hi", "output": "Hello"}


def file(path: Path) -> None:
    """Of somebody else."""
    path.write_text("theirs")


def full_directory(path: Path) -> None:
    """In which somebody keeps other things."""
    path.unlink()
    path.mkdir()
    (path / "theirs").write_text("theirs")


KINDS: dict[str, broken.Break] = dict(broken.places()) | {
    "a file": file,
    "a full directory": full_directory,
}
NO_DIRECTORIES = [kind for kind in KINDS if kind not in ("nothing", "a directory", "a full directory")]
NO_FILES = [kind for kind in KINDS if kind not in ("nothing", "a file")]


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "Lease", functools.partial(Lease, poll=0.01, lease=0.1))


def put(path: Path, kind: str) -> None:
    """Something of this kind, in the place of whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    KINDS[kind](path)


def claimed(scene: Scene) -> None:
    """What every stage does first, prepare with `claim`."""
    workspace.require_within(scene.run, scene.context.workspace)
    workspace.claim(scene.run)
    workspace.require_ownership(scene.run)


def refused(scene: Scene) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        claimed(scene)
    assert caught.value.reason == "InvalidConfig"
    assert "spec.storage.path" in caught.value.message
    return caught.value


@pytest.mark.parametrize("kind", NO_DIRECTORIES)
@pytest.mark.parametrize("name", ["", "..", *workspace._DIRECTORIES, "out"])
def test_a_directory_of_a_run_that_can_be_none_is_told_before_anything_is_done(
    scene: Scene, name: str, kind: str
) -> None:
    scene.document["runDirectory"] = str(scene.root / "workspace" / "team" / "support")
    scene.document["merge"] = {"directory": str(scene.run_directory / "out")}
    if name not in ("", ".."):
        workspace.claim(scene.run)
    place = Path(os.path.normpath(scene.run_directory / name))
    put(place, kind)
    if name == "model" and kind.startswith(("a link", "a device")):  # into a cache, which is judged by its own rules
        claimed(scene)
        return
    told = refused(scene).message
    assert str(place) in told
    words = {
        "a link to itself": "a symbolic link that leads nowhere",
        "a link to nothing": "a symbolic link that leads",
    }
    assert (
        "leads out of the volume" if kind in ("a link out of the volume", "a device") else words.get(kind, kind)
    ) in told


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", [workspace.MARKER, *workspace._FILES])
def test_nor_is_a_file_of_a_run_anything_else(scene: Scene, name: str, kind: str) -> None:
    if name != workspace.MARKER:
        workspace.claim(scene.run)
    put(scene.run_directory / name, kind)
    assert str(scene.run_directory / name) in refused(scene).message


@pytest.mark.parametrize("name", [*workspace._DIRECTORIES, *workspace._FILES])
def test_what_a_run_of_before_has_left_there_is_overwritten_whatever_it_has_become(scene: Scene, name: str) -> None:
    scene.document |= {"onExisting": "Overwrite", "owner": {"uid": "uid-0", "namespace": "team", "name": "run"}}
    for number, kind in enumerate(kind for kind in KINDS if kind not in ("a link out of the volume", "a device")):
        workspace.claim(scene.run)
        put(scene.run_directory / name, kind)
        scene.document["owner"]["uid"] = f"uid-{number + 1}"
        claimed(scene)
        assert not os.path.lexists(scene.run_directory / name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lease_that_is_no_file_holds_nobody_up_for_good(scene: Scene, kind: str) -> None:
    put(scene.run_directory / ".qwensft-claim.7", kind)
    claimed(scene)


PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=120)


@settings(suppress_health_check=list(HealthCheck), max_examples=30, deadline=None)
@given(parts=st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3), merged=PARTS)
def test_a_name_is_too_long_at_once_or_in_no_stage(scene: Scene, parts: list[str], merged: str) -> None:
    if merged in (".", ".."):
        return
    scene.document["runDirectory"] = str(scene.root / "workspace" / Path(*parts))
    scene.document["merge"] = {"directory": str(scene.run_directory / merged)}
    scene.document["owner"]["uid"] = f"uid-{parts}"
    scene.document["onExisting"] = "Resume"
    run = scene.run
    longest = max(len(part.encode()) for part in parts)
    if longest > 255 or len(merged.encode()) > 255 - len("..partial"):
        field = "spec.storage.path" if longest > 255 else "spec.merge.path"
        with pytest.raises(PermanentError, match=rf"(?s)^{field}: .* file system takes names of"):
            claimed(scene)
        return
    claimed(scene)
    assert run.merge is not None
    for name in (f".{run.merge.directory.name}.partial", f".{run.merge.directory.name}.old"):
        run.merge.directory.with_name(name).mkdir(exist_ok=True)


# What a stage meets on its way.


@pytest.fixture
def preparing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A run with all but torch: its rows are checked and written, and tokenised by what makes the same directories."""

    def tokenise(_: Any, run: Any, *__: Any) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        output = run.run_directory / ".tokenize" / "tokenized"
        output.mkdir(parents=True)
        preview.write(run.run_directory, [])
        places_of_tokens = run.tokenized_directory
        files.remove(places_of_tokens)
        output.rename(places_of_tokens)
        return {"samples": 1, "tokens": 12}, [], {}

    monkeypatch.setattr(prepare, "tokenise", tokenise)
    monkeypatch.setattr(prepare, "forbid_hub_access", lambda: None)
    monkeypatch.setattr(prepare, "_LIBRARIES", ())
    monkeypatch.setattr(prepare, "_LIBRARIES_OF_TEXTS", ())
    models.write(scene.root / "model", "qwen3")
    scene.train |= {"learning_rate": 1e-4, "num_train_epochs": 3.0, "per_device_train_batch_size": 1}
    scene.train |= {"gradient_accumulation_steps": 1, "warmup_steps": 1}
    scene.add_dataset("tickets", [GOOD])
    return scene


def reported(scene: Scene, stage: str = "prepare") -> dict[str, Any]:
    _ = scene.context
    code = cli.main([stage, *scene.arguments])
    found: dict[str, Any] = json.loads((scene.root / "termination-log").read_text())
    assert found["exitCode"] == code
    return found


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["data/tickets.parquet", "data/dataset_info.json", "data/media", "data/tokenized"])
@pytest.mark.timeout(60)
def test_what_is_in_the_way_of_prepare_is_replaced_or_named_with_the_fix(
    preparing: Scene, name: str, kind: str
) -> None:
    place = preparing.run_directory / name
    workspace.claim(preparing.run)
    put(place, kind)
    report = reported(preparing)
    if report["outcome"] == "Succeeded":
        return
    assert (report["reason"], report["exitCode"]) == ("PreparationFailed", 1)
    assert report["message"].startswith(f"{place} is a directory where something else is needed (")
    assert "Remove it, or set spec.storage.path to another directory" in report["message"]


@pytest.mark.parametrize("stage", [train, merge])
@pytest.mark.parametrize("name", ["train", "merged", ".merged.old"])
def test_the_other_stages_tell_it_too(prepared: Scene, torchrun: Torchrun, stage: Any, name: str) -> None:
    prepared.document["merge"] = {"directory": str(prepared.run_directory / "merged")}
    put(prepared.run_directory / name, "a file")
    (prepared.root / "etc" / "export.yaml").write_text("{}")
    with pytest.raises(PermanentError, match=f"/{name} is a file, where a run has a directory"):
        stage.main(prepared.context)
    assert torchrun.called_with is None


@pytest.mark.parametrize("number", sorted(places._IN_THE_WAY))
def test_an_error_elsewhere_is_no_matter_of_the_run_s_volume(tmp_path: Path, number: int) -> None:
    for path in ("/etc/hostname", None):
        assert places.in_the_way(OSError(number, os.strerror(number), path), "MergeFailed", tmp_path) is None
    (tmp_path / "file").touch()
    found = places.in_the_way(
        OSError(number, os.strerror(number), str(tmp_path / "file" / "x")), "MergeFailed", tmp_path
    )
    assert found is not None
    assert found.message.startswith(f"{tmp_path / 'file'} is a file where something else is needed")


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EBUSY])
def test_a_deleted_file_that_nfs_keeps_for_a_process_is_told_as_that(tmp_path: Path, number: int) -> None:
    """NFS itself is not to be had here: what it leaves, and how it answers."""
    folder = tmp_path / "run" / "train" / "1"
    folder.mkdir(parents=True)
    (folder / ".nfs0000000000a1b2c300000001").touch()
    path = folder / ".nfs0000000000a1b2c300000001" if number == errno.EBUSY else tmp_path / "run" / "train"
    found = places.in_the_way(OSError(number, os.strerror(number), str(path)), "MergeFailed", tmp_path)
    assert found is not None
    assert not isinstance(found, PermanentError)
    assert found.message.startswith(
        f"{folder} could not be emptied: .nfs0000000000a1b2c300000001 is a deleted file that a process on this node "
        "still has open ("
    )
    assert "Remove it" not in found.message
    replaced = OSError(errno.ENOTEMPTY, "Directory not empty", str(tmp_path / "new"), None, str(folder))
    found = places.in_the_way(replaced, "MergeFailed", tmp_path)
    assert found is not None
    assert found.message.startswith(f"{folder} could not be emptied: .nfs")


def test_a_directory_that_others_fill_while_it_is_deleted_is_told_as_that(
    preparing: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner one: of it Python tells the last part of the path alone."""
    preparing.document |= {"onExisting": "Overwrite", "owner": {"uid": "uid-0", "namespace": "team", "name": "run"}}
    workspace.claim(preparing.run)
    inner = preparing.run_directory / "train" / "1"
    inner.mkdir(parents=True)
    preparing.document["owner"]["uid"] = "uid-1"
    remove = os.rmdir

    def rmdir(name: str, **named: Any) -> None:
        if name == "1":
            (inner / "theirs").touch()
        remove(name, **named)

    monkeypatch.setattr(os, "rmdir", rmdir)
    report = reported(preparing)
    assert (report["reason"], report["exitCode"]) == ("PreparationFailed", 1)
    assert report["message"].startswith(f"{preparing.run_directory / 'train'} could not be emptied: somebody has put")
    monkeypatch.undo()


def test_another_busy_file_is_no_matter_of_what_stands_there(tmp_path: Path) -> None:
    busy = OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(tmp_path))
    assert places.in_the_way(busy, "MergeFailed", tmp_path) is None


# Data files.


def grows(path: Path) -> None:
    with path.open("a") as stream:
        stream.write(" ")


def is_replaced(path: Path) -> None:
    path.with_suffix(".new").write_text(path.read_text())
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [grows, is_replaced, Path.unlink])
@pytest.mark.parametrize("rows", [json.dumps([GOOD]), json.dumps([GOOD, GOOD])[:-9]], ids=["whole", "half written"])
def test_rows_that_somebody_writes_meanwhile_are_neither_judged_nor_trained(
    preparing: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], rows: str
) -> None:
    path = preparing.root / "datasets" / "tickets" / "data.json"
    path.write_text(rows)
    written = normalise.write_normalised

    def write_normalised(*arguments: Any) -> Any:
        try:
            return written(*arguments)
        finally:
            change(path)

    with monkeypatch.context() as patch:
        patch.setattr(normalise, "write_normalised", write_normalised)
        with pytest.raises(StageError, match=r"data\.json was changed while it was read\. It is") as caught:
            prepare.main(preparing.context)
    assert not isinstance(caught.value, PermanentError)
    assert not preparing.run.prepare_result.exists()
    path.write_text(json.dumps([GOOD]))
    assert prepare.main(preparing.context).metrics["samples"] == 1


def test_names_that_are_no_text_and_thousands_of_them_are_told_shortly(preparing: Scene) -> None:
    path = preparing.root / "datasets" / "tickets" / "data.json"
    path.unlink()
    for number in range(3000):
        (path.parent / f"z{number}").touch()
    Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\x1b[31m")).touch()
    Path(os.fsdecode(os.fsencode(path.parent) + b"/a\xfe")).touch()
    report = reported(preparing)
    assert (report["reason"], report["exitCode"]) == ("InvalidDataset", EXIT_PERMANENT)
    assert "there is no file" in report["message"]
    assert "\x1b" not in report["message"]
    assert len(report["message"]) < 700


def test_an_empty_volume_and_one_with_lost_and_found_are_taken(preparing: Scene) -> None:
    (preparing.run_directory / "lost+found").mkdir(parents=True)
    (preparing.root / "workspace" / "lost+found").mkdir()
    assert reported(preparing)["outcome"] == "Succeeded"


# The file system.

AS_ANYBODY = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.getuid() == 0 else []
"""Root without the capabilities by which rights do not count for it."""


def in_a_process(scene: Scene, *before: str) -> dict[str, Any]:
    """The report of prepare; `before` is put before its command."""
    _ = scene.context
    log = scene.root / "termination-log"
    log.unlink(missing_ok=True)
    command = [*before, sys.executable, "-m", "qwensft_trainer.cli", "prepare", *scene.arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert log.exists(), done.stderr
    found: dict[str, Any] = json.loads(log.read_text())
    assert found["exitCode"] == done.returncode, done.stderr
    return found


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv to be nobody special")
@pytest.mark.parametrize("place", ["workspace", "workspace/support-1"])
def test_what_the_user_may_not_write_to_is_told_with_user_and_fix(preparing: Scene, place: str) -> None:
    path = preparing.root / place
    path.mkdir(exist_ok=True)
    path.chmod(0o555)
    try:
        report = in_a_process(preparing, *AS_ANYBODY)
    finally:
        path.chmod(0o755)
    assert (report["reason"], report["exitCode"]) == ("VolumeAccessDenied", EXIT_PERMANENT)
    assert f"The pod runs as user {os.getuid()}" in report["message"]
    assert str(path) in report["message"]


def can_mount() -> bool:
    """Whether this machine gives a mount namespace."""
    command = ["unshare", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace")
def test_a_volume_that_is_mounted_read_only_is_told_as_such(preparing: Scene) -> None:
    volume = preparing.root / "workspace"
    mounts = f'mount --bind "{volume}" "{volume}" && mount -o remount,bind,ro "{volume}" && exec "$@"'
    report = in_a_process(preparing, "unshare", "--mount", "sh", "-c", mounts, "sh")
    assert (report["reason"], report["exitCode"]) == ("VolumeAccessDenied", 1)
    assert f"The volume at {volume} is read-only." in report["message"]
