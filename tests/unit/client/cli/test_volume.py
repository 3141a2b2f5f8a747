"""pull and clean over a folder of this machine: breaks, changed files, digests; and the losses of a log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwensft.api.v1alpha1 import Output, Outputs, SourceRun
from qwensft.cli import cleaning, pulling
from qwensft.cli.failures import CommandError
from qwensft.cli.views import plot
from qwensft.cli.volumes import losses_of

from .conftest import recorded

FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"w" * 3000,
    "model-00002-of-00002.safetensors": b"v" * 10,
}


class Folder:
    """A volume that is a folder; a read can be made to break off after so many bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read_bytes = 0
        self.breaks_after: int | None = None

    def sizes(self, folder: str) -> dict[str, int]:
        base = self.root / folder
        return {str(path.relative_to(base)): path.stat().st_size for path in sorted(base.rglob("*")) if path.is_file()}

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        content = (self.root / path).read_bytes()[offset:]
        for start in range(0, len(content), 100):
            if self.breaks_after is not None and self.read_bytes >= self.breaks_after:
                raise ConnectionResetError("broken")
            piece = content[start : start + 100]
            self.read_bytes += len(piece)
            yield piece

    def remove(self, folders: list[str]) -> None:
        raise AssertionError(folders)


@pytest.fixture
def merged(tmp_path: Path) -> tuple[Folder, Output]:
    """A merged model as the trainer leaves it, and what the status says of it."""
    volume = Folder(tmp_path / "volume")
    folder = volume.root / "run" / "merged"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "sizeBytes": len(content)}
        for name, content in FILES.items()
    }
    manifest = json.dumps(listed).encode()
    (folder / pulling.MANIFEST).write_bytes(manifest)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    return volume, Output(claim_name="claim", path="run/merged", digest=digest)


def silent(name: str, done: int, size: int) -> None:
    del name, done, size


def test_a_pull_that_breaks_off_goes_on_where_it_was(merged: tuple[Folder, Output], tmp_path: Path) -> None:
    volume, output = merged
    target = tmp_path / "here"
    whole = sum(volume.sizes("run/merged").values()) + volume.sizes("run/merged")[pulling.MANIFEST]
    volume.breaks_after = 1500
    with pytest.raises(ConnectionResetError):
        pulling.pull(volume, output, target, silent)
    volume.breaks_after = None
    pulled = pulling.pull(volume, output, target, silent)
    assert {path.name: path.read_bytes() for path in target.iterdir() if path.name in FILES} == FILES
    assert (pulled.kept + pulled.fetched, pulled.proven) == (4, True)
    assert volume.read_bytes <= whole + volume.sizes("run/merged")[pulling.MANIFEST], (
        "nothing was read twice but the list"
    )
    again = pulling.pull(volume, output, target, silent)
    assert (again.fetched, again.kept) == (0, 4)


def test_a_part_of_another_file_is_thrown_away(merged: tuple[Folder, Output], tmp_path: Path) -> None:
    volume, output = merged
    target = tmp_path / "here"
    target.mkdir()
    (target / "model-00001-of-00002.safetensors.part").write_bytes(b"x" * 500)
    pulling.pull(volume, output, target, silent)
    assert (target / "model-00001-of-00002.safetensors").read_bytes() == b"w" * 3000


def test_a_file_that_was_changed_is_refused(merged: tuple[Folder, Output], tmp_path: Path) -> None:
    volume, output = merged
    (volume.root / "run/merged/model-00001-of-00002.safetensors").write_bytes(b"W" * 3000)
    with pytest.raises(
        CommandError, match=r"model-00001-of-00002.safetensors has another content than the run has told"
    ):
        pulling.pull(volume, output, tmp_path / "here", silent)
    (volume.root / "run/merged" / pulling.MANIFEST).write_bytes(b"{}")
    with pytest.raises(CommandError, match="is not the one that the run told"):
        pulling.pull(volume, output, tmp_path / "elsewhere", silent)


def test_a_folder_with_other_files_is_refused(merged: tuple[Folder, Output], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model.safetensors").write_bytes(b"old")
    with pytest.raises(CommandError, match=r"holds other files, such as model\.safetensors"):
        pulling.pull(*merged, tmp_path / "here", silent)


def test_an_adapter_is_proven_by_one_digest(tmp_path: Path) -> None:
    volume = Folder(tmp_path / "volume")
    folder = volume.root / "run/train/1"
    (folder / "checkpoint-5").mkdir(parents=True)
    content = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"a" * 250, "trainer_log.jsonl": b"{}"}
    for name, text in content.items():
        (folder / name).write_bytes(text)
    for beside in ("attempt.json", "checkpoint-5/optimizer.pt"):
        (folder / beside).write_bytes(b"no part of it")
    lines = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in sorted(content.items()))
    digest = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    output = Output(claim_name="claim", path="run/train/1", digest=digest)
    pulled = pulling.pull(volume, output, tmp_path / "here", silent)
    assert (pulled.fetched, pulled.proven) == (3, True)
    with pytest.raises(CommandError, match="is not what the run told"):
        pulling.pull(volume, output.replace(digest="sha256:0"), tmp_path / "here", silent)
    assert len(list((tmp_path / "here").iterdir())) == 3, "what was here before is not deleted"


def test_an_adapter_that_is_not_proven_has_no_file_with_its_name(tmp_path: Path) -> None:
    volume = Folder(tmp_path / "volume")
    (volume.root / "run").mkdir(parents=True)
    (volume.root / "run" / "adapter_model.safetensors").write_bytes(b"a" * 250)
    output = Output(claim_name="claim", path="run", digest="sha256:0")
    with pytest.raises(CommandError, match="is not what the run told"):
        pulling.pull(volume, output, tmp_path / "here", silent)
    assert list((tmp_path / "here").iterdir()) == []


def test_the_best_result_is_meant_unless_another_is_named() -> None:
    job = recorded("succeeded")
    assert pulling.result_of(job, "").path == "run/merged"
    assert pulling.result_of(job, "adapter").path == "run/train/1/adapter"
    with pytest.raises(CommandError, match="it has merged, adapter"):
        pulling.result_of(job, "model")
    with pytest.raises(CommandError, match="has no result yet: it is Training"):
        pulling.result_of(recorded("training"), "")


@pytest.fixture
def report(merged: tuple[Folder, Output]) -> Output:
    """The page of the run, on the volume of its model."""
    volume, _ = merged
    content = b"<!DOCTYPE html>" + b"." * 400
    (volume.root / "run" / "report.html").write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Output(claim_name="claim", path="run/report.html", size_bytes=len(content), digest=digest)


def test_a_report_is_fetched_beside_the_model_or_alone(
    merged: tuple[Folder, Output], report: Output, tmp_path: Path
) -> None:
    volume, output = merged
    target = tmp_path / "here"
    assert pulling.pull_report(volume, report, target, silent).fetched == 1
    assert pulling.pull(volume, output, target, silent).fetched == 4, "it is no stranger in the model's folder"
    assert pulling.pull_report(volume, report, target, silent).kept == 1
    assert (target / "report.html").read_bytes() == (volume.root / "run" / "report.html").read_bytes()


def test_a_report_that_was_changed_is_refused(merged: tuple[Folder, Output], report: Output, tmp_path: Path) -> None:
    volume, _ = merged
    (volume.root / "run" / "report.html").write_bytes(b"x" * int(report.size_bytes or 0))
    with pytest.raises(CommandError, match="has another content than the run has told"):
        pulling.pull_report(volume, report, tmp_path, silent)


def test_a_report_is_a_result_only_when_it_is_named(report: Output) -> None:
    job = recorded("succeeded")
    told = job.replace(status=job.status.replace(outputs=(job.status.outputs or Outputs()).replace(report=report)))
    assert pulling.report_of(job) is None
    assert pulling.result_of(told, "report") is pulling.report_of(told)
    assert pulling.result_of(told, "").path == "run/merged"
    with pytest.raises(CommandError, match="it has merged, adapter, report"):
        pulling.result_of(told, "model")


def test_only_checkpoints_of_runs_that_succeeded_go() -> None:
    job = recorded("succeeded")
    sizes = {
        "1/checkpoint-5/model.pt": 2048,
        "1/checkpoint-5/rng.pt": 1024,
        "1/adapter_model.safetensors": 9,
        "2/checkpoint-7/x": 1,
    }
    found = cleaning.checkpoints(job, sizes)
    assert [(one.name, one.size) for one in found] == [
        (f"{job.run_path}/train/1/checkpoint-5", 3072),
        (f"{job.run_path}/train/2/checkpoint-7", 1),
    ]
    assert cleaning.text(found).endswith("\n3.0 KiB in all")
    with pytest.raises(CommandError, match="may go on from its checkpoints"):
        cleaning.require_succeeded(recorded("failed"))


def test_only_claims_that_the_operator_made_and_nobody_uses_go() -> None:
    def claim(name: str, *, ours: bool = True) -> dict[str, object]:
        labels = {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": name} if ours else {}
        return {
            "metadata": {"name": f"{name}-workspace", "labels": labels, "uid": name, "resourceVersion": "1"},
            "spec": {"resources": {"requests": {"storage": "20Gi"}}},
        }

    second = recorded("succeeded")
    begun = SourceRun(name="first", uid="u", claim_name="first-workspace", path="first-u/merged", digest="sha256:a")
    adapter = begun.replace(name="trained", claim_name="trained-workspace")
    second = second.replace(status=second.status.replace(source_run=begun, adapter_run=adapter))
    named = [claim(name) for name in ("gone", "succeeded", "mounted", "first", "trained")]
    claims = [*named, claim("other", ours=False)]
    pods = [{"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "mounted-workspace"}}, {"emptyDir": {}}]}}]
    found = cleaning.claims(claims, [second], pods)
    assert [(one.name, one.size) for one in found] == [("gone-workspace", 20 * 2**30)]


def test_losses_are_those_steps_that_have_one() -> None:
    records = [{"step": 5, "loss": 2.5}, {"step": 10, "loss": 2, "eval_loss": 2.1}, {"step": 15, "lr": 1.0}]
    assert losses_of(records) == ([(5, 2.5), (10, 2.0)], [(10, 2.1)])


def test_losses_are_drawn_with_characters() -> None:
    points = [(step, 5.0 / step) for step in range(1, 50)]
    drawn = plot.text(points, [(25, 1.0)], 60, colours=False)
    assert "training loss" in drawn
    assert "\x1b" not in drawn
    assert max(map(len, drawn.splitlines())) <= 60
