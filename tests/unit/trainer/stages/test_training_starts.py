"""Where one node's training starts: base, checkpoint or not at all; and what node rank 0 tells the others."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft_trainer.base import metrics_server
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.contract.stage import StageContext
from qwensft_trainer.stages import train
from qwensft_trainer.training import manifests, pissa, start, unloadable
from qwensft_trainer.training.start import Start

from ..conftest import Scene
from .conftest import TRAINED, Torchrun, experiment, leave_checkpoint


def completed_arguments(scene: Scene) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((scene.root / "scratch" / "train.yaml").read_text())
    return loaded


def test_the_next_attempt_resumes_and_says_so_to_the_others(prepared: Scene, torchrun: Torchrun) -> None:
    leave_checkpoint(prepared, 1, 60)
    train.main(prepared.attempt(2))
    assert completed_arguments(prepared)["resume_from_checkpoint"] == str(
        prepared.run_directory / "train" / "1" / "checkpoint-60"
    )
    decision = json.loads((prepared.run_directory / "train" / "2" / "attempt.json").read_text())
    assert (decision["resumeFrom"], decision["resumeStep"]) == ("train/1/checkpoint-60", 60)


def test_where_the_next_checkpoint_does_not_fit_nothing_is_trained_as_far_as_to_it(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave_checkpoint(prepared, 1, 40)
    needed = sum(path.stat().st_size for path in folder.iterdir() if path.name != manifests.MANIFEST)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 20, 1 << 20, needed - 1))
    with pytest.raises(StageError, match=f"the next checkpoint needs {needed} bytes") as told:
        train.main(prepared.attempt(2))
    assert told.value.reason == "DiskFull"
    assert torchrun.called_with is None
    assert [path.name for path in (prepared.run_directory / "train").iterdir()] == ["1"]


def test_an_attempt_that_died_after_its_last_step_needs_no_training(prepared: Scene, torchrun: Torchrun) -> None:
    weights = (leave_checkpoint(prepared, 1, 100) / "adapter_model.safetensors").read_bytes()
    result = train.main(prepared.attempt(2))
    assert torchrun.called_with is None
    assert result.outputs["adapter"]["path"] == "support-1/train/1"
    assert (prepared.run_directory / "train" / "1" / "adapter_model.safetensors").read_bytes() == weights
    assert result.metrics["step"] == 100


@pytest.mark.parametrize("attempt", [2, 1])  # the same again: another job's attempt 1, with onExisting: Resume
def test_a_resumed_pissa_training_gets_the_first_attempts_initial_adapter(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    prepared.document["tuning"]["pissa"] = True
    leave_checkpoint(prepared, 1, 60)
    initial = prepared.run_directory / "train" / "1" / "pissa_init" / "adapter_model.safetensors"
    initial.parent.mkdir()
    initial.write_text("initial")
    converted: list[Path] = []
    monkeypatch.setattr(pissa, "convert", converted.append)
    train.main(prepared.attempt(attempt))
    directory = prepared.run_directory / "train" / ("2" if attempt == 2 else "1.2")
    assert (directory / "pissa_init" / "adapter_model.safetensors").read_text() == "initial"
    assert converted == [directory]


def test_an_initial_adapter_is_not_copied_from_where_a_link_leads(
    prepared: Scene, torchrun: Torchrun, tmp_path: Path
) -> None:
    prepared.document["tuning"]["pissa"] = True
    leave_checkpoint(prepared, 1, 60)
    (prepared.run_directory / "train" / "1" / "pissa_init").mkdir()
    (prepared.run_directory / "train" / "1" / "pissa_init" / "adapter_model.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(PermanentError, match="symbolic links") as caught:
        train.main(prepared.attempt(2))
    assert caught.value.reason == "InvalidConfig"
    assert not (prepared.run_directory / "train" / "2" / "pissa_init").exists()


def told(scene: Scene, **changes: Any) -> StageContext:
    """The context of another node, whose node rank 0 answers."""
    os.environ["NODE_RANK"] = "1"
    digest = start.digest_of(experiment(scene))
    begun = replace(Start("pod-a", scene.run.owner.uid, 1, digest, output="train/1"), **changes)
    answer = start.Answer(2, begun.owner, begun.attempt, lambda: False)
    answer.tell(begun)
    port = metrics_server.start(0, Figures("x_", {}, dict), {start.ROUTE: answer})
    return replace(scene.context, metrics_port=port or 0)


def test_another_node_starts_where_node_rank_0_says(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("pass")
    leave_checkpoint(prepared, 7, 60)
    train.main(told(prepared, checkpoint="train/7/checkpoint-60", step=60, output="train/1.2"))
    completed = completed_arguments(prepared)
    assert completed["resume_from_checkpoint"].endswith("train/7/checkpoint-60")
    assert completed["output_dir"] == str(prepared.run_directory / "train" / "1.2")
    compared = json.loads((prepared.root / "scratch" / "start.json").read_text())
    assert (compared["pod"], compared["step"]) == ("pod-a", 60)
    assert not (prepared.run_directory / "train.json").exists()


def test_a_node_compares_what_it_sees_itself_and_not_what_it_was_told(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("pass")
    leave_checkpoint(prepared, 7, 60)
    prepared.train["learning_rate"] = 1e-4  # as of another ConfigMap
    train.main(told(prepared, checkpoint="train/7/checkpoint-80", step=80, digest="sha256:of-rank-0"))
    compared = json.loads((prepared.root / "scratch" / "start.json").read_text())
    assert compared["step"] == 0, "there is no such checkpoint on this node's volume"
    assert compared["digest"] == start.digest_of(experiment(prepared))


def test_a_file_that_a_dead_pod_has_left_tells_nobody_where_to_start(prepared: Scene, torchrun: Torchrun) -> None:
    left = prepared.run_directory / "train" / "1" / "attempt.json"
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps(experiment(prepared).document() | {"resumeFrom": "train/0/checkpoint-7"}))
    torchrun.does("pass")
    train.main(told(prepared))
    assert "resume_from_checkpoint" not in completed_arguments(prepared)


def test_a_node_that_comes_after_the_result_was_recorded_is_done(prepared: Scene, torchrun: Torchrun) -> None:
    train.main(prepared.context)
    os.environ["NODE_RANK"] = "1"
    (torchrun.directory / "calls").unlink()
    assert train.main(prepared.context).outputs
    assert torchrun.called_with is None


def test_two_lives_of_one_attempt_never_write_into_one_directory(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("sys.exit(1)")
    for _ in range(2):  # a queue takes the pods away and gives them back
        with pytest.raises(StageError):
            train.main(prepared.context)
        if not (prepared.run_directory / "train" / "5").exists():
            leave_checkpoint(prepared, 5, 20)
    assert completed_arguments(prepared)["output_dir"].endswith("train/1.2")
    lives = [prepared.run_directory / "train" / name / "attempt.json" for name in ("1", "1.2")]
    records = [json.loads(path.read_text()) for path in lives]
    assert records[0]["pod"] != records[1]["pod"]
    assert [record.get("resumeFrom") for record in records] == [None, "train/5/checkpoint-20"]


def test_a_damaged_checkpoint_is_marked_and_the_next_older_taken(prepared: Scene, torchrun: Torchrun) -> None:
    leave_checkpoint(prepared, 1, 40)
    damaged = leave_checkpoint(prepared, 2, 60)
    size = (damaged / "adapter_model.safetensors").stat().st_size
    (damaged / "adapter_model.safetensors").write_text("cut")
    train.main(prepared.attempt(3))
    assert completed_arguments(prepared)["resume_from_checkpoint"].endswith("train/1/checkpoint-40")
    assert json.loads((damaged / "qwensft-unusable.json").read_text()) == {
        "why": f"adapter_model.safetensors has 3 of {size} bytes"
    }


UNLOADABLE = """
    checkpoint = arguments["resume_from_checkpoint"]
    json.dump({"checkpoint": checkpoint, "why": "EOFError: Ran out of input"}, open(scratch + "/unloadable.json", "w"))
    print("RuntimeError: MESSAGE", file=sys.stderr)
    sys.exit(1)
"""


def attempt(scene: Scene, number: int) -> StageError | None:
    """What an attempt ends with, if not well."""
    try:
        train.main(scene.attempt(number))
    except StageError as error:
        return error
    return None


def resumed_from(scene: Scene) -> str:
    """The checkpoint that the last attempt has tried."""
    return "/".join(Path(completed_arguments(scene)["resume_from_checkpoint"]).parts[-2:])


def test_checkpoints_that_all_fail_alike_are_not_given_up_one_after_the_other(
    prepared: Scene, torchrun: Torchrun
) -> None:
    folders = [leave_checkpoint(prepared, 1, step) for step in (20, 40, 60)]
    torchrun.does(UNLOADABLE.replace("EOFError", "Step 60: EOFError").replace("MESSAGE", "Ran out of input"))
    assert attempt(prepared, 2) is not None
    assert manifests.damage(folders[2]) is not None
    torchrun.does(UNLOADABLE.replace("EOFError", "Step 40: EOFError").replace("MESSAGE", "Ran out of input"))
    stopped = attempt(prepared, 3)
    assert resumed_from(prepared) == "1/checkpoint-40"
    assert isinstance(stopped, PermanentError)
    assert stopped.reason == "CheckpointsUnloadable"
    for words in ("1/checkpoint-40, 1/checkpoint-60 do not load", "EOFError", "spec.worker.image", "runPolicy.retry"):
        assert words in stopped.message
    assert [manifests.damage(folder) for folder in folders] == [None] * 3
    # The cause was not mended: one attempt is enough to see that. Then it is, and nothing is lost.
    again = attempt(prepared, 4)
    assert again is not None
    assert (again.reason, resumed_from(prepared)) == ("CheckpointsUnloadable", "1/checkpoint-60")
    torchrun.does(TRAINED)
    assert attempt(prepared, 5) is None
    assert resumed_from(prepared) == "1/checkpoint-60"


def test_checkpoints_with_damaged_files_are_passed_over_however_alike_they_fail(
    prepared: Scene, torchrun: Torchrun
) -> None:
    for step in (20, 40, 60):
        folder = leave_checkpoint(prepared, 1, step)
        if step > 20:
            (folder / "optimizer.pt").write_bytes(b"PK\x03\x04 and no more")
            manifests.seal(folder)
    torchrun.does(UNLOADABLE.replace("MESSAGE", "PytorchStreamReader failed reading zip archive"))
    for number in (2, 3):
        error = attempt(prepared, number)
        assert error is not None
        assert (error.reason, error.exit_code) == ("TrainingFailed", 1)
        assert "optimizer.pt is damaged" in error.message
    torchrun.does(TRAINED)
    assert attempt(prepared, 4) is None
    assert resumed_from(prepared) == "1/checkpoint-20"


def test_checkpoints_that_fail_in_different_ways_are_tried_down_to_the_last_which_is_kept(
    prepared: Scene, torchrun: Torchrun
) -> None:
    last, newest = leave_checkpoint(prepared, 1, 20), leave_checkpoint(prepared, 1, 40)
    for number, error in enumerate(("EOFError", "KeyError"), start=2):
        torchrun.does(UNLOADABLE.replace("EOFError", error).replace("MESSAGE", error))
        assert attempt(prepared, number) is not None
    assert (manifests.damage(newest) is None, manifests.damage(last)) == (False, None)
    stopped = attempt(prepared, 4)
    assert resumed_from(prepared) == "1/checkpoint-20"
    assert stopped is not None
    assert stopped.reason == "CheckpointsUnloadable"
    assert "1/checkpoint-20 did not load in two attempts" in stopped.message


def test_nodes_that_find_out_at_once_come_to_the_same_end(prepared: Scene) -> None:
    older, newer = leave_checkpoint(prepared, 1, 40), leave_checkpoint(prepared, 1, 60)
    error = StageError("TrainingFailed", "local rank 0: EOFError")

    def of_two_nodes(folder: Path, why: str, attempt: str) -> list[StageError]:
        return [unloadable.judge(folder, why, error, attempt=attempt) for _ in range(2)]

    assert all("takes an older checkpoint" in told.message for told in of_two_nodes(newer, "EOFError", "2"))
    assert all("tries it once more" in told.message for told in of_two_nodes(older, "KeyError", "3"))
    assert [told.reason for told in of_two_nodes(older, "EOFError", "4")] == ["CheckpointsUnloadable"] * 2
    assert manifests.damage(newer) is None


def test_a_checkpoint_that_does_not_load_is_left_out_by_the_next_attempt(prepared: Scene, torchrun: Torchrun) -> None:
    leave_checkpoint(prepared, 1, 40)
    leave_checkpoint(prepared, 1, 60)
    torchrun.does(UNLOADABLE.replace("MESSAGE", "Ran out of input"))
    with pytest.raises(StageError, match=r"next attempt takes an older checkpoint than 1/checkpoint-60"):
        train.main(prepared.attempt(2))
    torchrun.does(TRAINED)
    train.main(prepared.attempt(3))
    assert completed_arguments(prepared)["resume_from_checkpoint"].endswith("train/1/checkpoint-40")


def test_memory_that_is_not_enough_to_load_a_checkpoint_says_nothing_about_it(
    prepared: Scene, torchrun: Torchrun
) -> None:
    folder = leave_checkpoint(prepared, 1, 60)
    torchrun.does(UNLOADABLE.replace("MESSAGE", "CUDA out of memory"))
    with pytest.raises(StageError) as caught:
        train.main(prepared.attempt(2))
    assert caught.value.reason == "OutOfMemory"
    assert manifests.damage(folder) is None


def test_ranks_that_differ_end_the_attempt_with_what_differs(prepared: Scene, torchrun: Torchrun) -> None:
    starts = [{"pod": "pod-a", "step": 75, "digest": "sha256:x"}, {"pod": "pod-b", "step": 37, "digest": "sha256:x"}]
    torchrun.does(f'json.dump({{"starts": {starts + starts}}}, open(scratch + "/different.json", "w"))')
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    assert (caught.value.reason, caught.value.exit_code) == ("StartMismatch", 1)
    assert "ranks 0 and 1 have pod pod-a and pod-b, step 75 and 37." in caught.value.message


def test_a_gang_cannot_do_without_the_port_at_which_it_is_told_where_to_start(
    prepared: Scene, torchrun: Torchrun
) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        context = replace(prepared.context, metrics_port=taken.getsockname()[1])
        with pytest.raises(StageError, match="is taken on this node") as caught:
            train.main(context)
        assert caught.value.reason == "RendezvousTimeout"
        os.environ["NNODES"] = "1"
        train.main(context)
        assert torchrun.called_with is not None
