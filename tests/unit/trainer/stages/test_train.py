"""One node's training, with a torchrun that behaves as the test says: start, end, drain and failure."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time

import pytest

from qwensft_trainer import cli
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.stages import train
from qwensft_trainer.training import continued, rendezvous, startup

from .. import adapters
from ..conftest import Scene, Torch
from .conftest import TRAINED, Torchrun, leave_checkpoint

rendezvous_wait_for_nodes = rendezvous.wait_for_nodes  # as it is where other nodes are waited for


def test_torchrun_gets_the_seed_pages_flags_from_the_environment(prepared: Scene, torchrun: Torchrun) -> None:
    train.main(prepared.context)
    path = prepared.root / "scratch" / "train.yaml"
    assert torchrun.called_with is not None
    assert " ".join(torchrun.called_with) == (
        "--nproc_per_node 4 --nnodes 2 --node_rank 0 --master_addr localhost --master_port 29500 "
        f"-m qwensft_trainer.training.worker {path}"
    )


def test_a_finished_training_is_recorded_with_its_output_and_numbers(prepared: Scene, torchrun: Torchrun) -> None:
    result = train.main(prepared.context)
    assert result.metrics["step"] == result.metrics["totalSteps"] == 100
    assert (result.metrics["initialLoss"], result.metrics["loss"]) == (4.0, 1.0)
    adapter = result.outputs["adapter"]
    assert adapter["path"] == "support-1/train/1"
    assert adapter["digest"].startswith("sha256:")
    recorded = json.loads((prepared.run_directory / "train.json").read_text())
    assert recorded["outputs"]["adapter"] == adapter
    assert recorded["directory"] == "train/1"


def test_where_a_merge_follows_the_digest_is_left_to_it(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.document["mergePlanned"] = True
    monkeypatch.setattr("qwensft_trainer.base.files.sha256_of_file", lambda path: pytest.fail(f"read {path}"))
    adapter = train.main(prepared.context).outputs["adapter"]
    sizes = [path.stat().st_size for path in (prepared.run_directory / "train" / "1").iterdir() if path.is_file()]
    attempt = (prepared.run_directory / "train" / "1" / "attempt.json").stat().st_size
    assert adapter == {"path": "support-1/train/1", "sizeBytes": sum(sizes) - attempt}


def test_a_failed_attempt_tells_how_far_it_was_and_when_it_began(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "process_age", lambda: 1000.0)
    torchrun.does("""
        told = {"step": 7, "attempt": {"training_timestamp_seconds": 5.0, "from_step": 3}}
        json.dump(told, open(scratch + "/progress.json", "w"))
        sys.exit(1)
    """)
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    metrics = caught.value.metrics
    assert (metrics["step"], metrics["attemptFromStep"], metrics["attemptTrainingTimestampSeconds"]) == (7, 3, 5.0)
    assert abs(metrics["attemptStartedTimestampSeconds"] - (time.time() - 1000)) < 60


def test_a_completed_run_is_never_started_again(prepared: Scene, torchrun: Torchrun) -> None:
    first = train.main(prepared.context)
    (torchrun.directory / "calls").unlink()
    again = train.main(prepared.attempt(2))
    assert torchrun.called_with is None
    assert (again.outputs, again.metrics["loss"]) == (first.outputs, first.metrics["loss"])


def test_a_finished_training_leaves_a_report_and_tells_where(prepared: Scene, torchrun: Torchrun) -> None:
    told = train.main(prepared.context).outputs["report"]
    content = (prepared.root / "workspace" / told["path"]).read_bytes()
    assert told == {
        "path": "support-1/report.html",
        "sizeBytes": len(content),
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
    }
    assert "learning_rate: 5.0e-06" in content.decode()
    assert "report" not in json.loads((prepared.run_directory / "train.json").read_text())["outputs"]


def test_a_report_that_was_not_written_before_its_pod_died_is_written_by_the_next(
    prepared: Scene, torchrun: Torchrun
) -> None:
    first = train.main(prepared.context).outputs["report"]
    (prepared.run_directory / "report.html").unlink()
    assert train.main(prepared.attempt(2)).outputs["report"] == first
    assert (prepared.run_directory / "report.html").is_file()


def test_only_node_rank_0_writes_the_report(prepared: Scene, torchrun: Torchrun) -> None:
    train.main(prepared.context)
    (prepared.run_directory / "report.html").unlink()
    os.environ["NODE_RANK"] = "1"
    assert "report" not in train.main(prepared.attempt(2)).outputs
    assert not (prepared.run_directory / "report.html").exists()


def test_a_report_that_cannot_be_written_fails_no_training(
    prepared: Scene, torchrun: Torchrun, capfd: pytest.CaptureFixture[str]
) -> None:
    (prepared.run_directory / "report.html").write_text("somebody's own")
    assert set(train.main(prepared.context).outputs) == {"adapter"}
    assert "warning: report.html is not written" in capfd.readouterr().out


def test_a_completed_run_of_another_configuration_is_not_ours(prepared: Scene, torchrun: Torchrun) -> None:
    train.main(prepared.context)
    prepared.train["learning_rate"] = 1e-4
    with pytest.raises(PermanentError) as caught:
        train.main(prepared.attempt(2))
    assert caught.value.reason == "OutputExists"


def test_exit_code_0_alone_is_no_success(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does(TRAINED.replace('"global_step": 100', '"global_step": 99'))
    with pytest.raises(StageError, match="stopped at step 99 of 100") as caught:
        train.main(prepared.context)
    assert caught.value.reason == "TrainingIncomplete"
    torchrun.does("pass")
    with pytest.raises(StageError, match=r"left no trainer_state\.json"):
        train.main(prepared.attempt(2))
    assert not (prepared.run_directory / "train.json").exists()


def test_a_failed_worker_is_told_by_its_error_file(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("""
        folder = os.environ["TMPDIR"] + "/torchelastic_a/none_b/attempt_0/2"
        os.makedirs(folder)
        extra = {"py_callstack": "Traceback", "timestamp": "1"}
        message = {"message": "torch.OutOfMemoryError: CUDA out of memory.", "extraInfo": extra}
        json.dump({"message": message}, open(folder + "/error.json", "w"))
        sys.exit(1)
    """)
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    assert caught.value.reason == "OutOfMemory"
    assert "local rank 2" in caught.value.message


@pytest.mark.parametrize(
    "message",
    [
        "OSError: [Errno 28] No space left on device",
        "RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 576 vs 534",
    ],
)
def test_a_save_that_finds_no_room_is_told_with_the_room_and_leaves_the_volume_no_fuller(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    whole = leave_checkpoint(prepared, 1, 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, (1 << 30) - 4096, 4096))
    torchrun.does(f"""
        os.makedirs(output + "/checkpoint-60")
        open(output + "/checkpoint-60/optimizer.pt", "w").write("half of it")
        folder = os.environ["TMPDIR"] + "/torchelastic_a/none_b/attempt_0/0"
        os.makedirs(folder)
        extra = {{"py_callstack": "Traceback", "timestamp": "1"}}
        json.dump({{"message": {{"message": {message!r}, "extraInfo": extra}}}}, open(folder + "/error.json", "w"))
        sys.exit(1)
    """)
    with pytest.raises(StageError, match=f"On {prepared.context.workspace} 4.0 KiB of 1.0 GiB are free") as told:
        train.main(prepared.attempt(2))
    assert told.value.reason == "DiskFull"
    assert "the claim of spec.storage.volume" in told.value.message
    assert list((prepared.run_directory / "train").glob("*/checkpoint-*")) == [whole]


def test_the_workers_output_is_relayed_and_searched(
    prepared: Scene, torchrun: Torchrun, capfd: pytest.CaptureFixture[str]
) -> None:
    torchrun.does("print('RuntimeError: Connection closed by peer', file=sys.stderr); sys.exit(1)")
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    assert caught.value.reason == "PeerLost"
    assert "Connection closed by peer" in capfd.readouterr().out


def test_what_the_workers_say_is_shown_without_secrets_and_control_characters(
    prepared: Scene, torchrun: Torchrun, capfd: pytest.CaptureFixture[str]
) -> None:
    os.environ |= {"NNODES": "1", "NODE_RANK": "0", "WANDB_API_KEY": "0123456789abcdef\n"}
    torchrun.does("""
        key = os.environ["WANDB_API_KEY"]
        print(f"logging in with {key}\\x1b[2J")
        folder = os.environ["TMPDIR"] + "/torchelastic_a/none_b/attempt_0/0"
        os.makedirs(folder)
        extra = {"py_callstack": "", "timestamp": "5"}
        message = {"message": "ValueError: " + "x" * 680 + key, "extraInfo": extra}
        json.dump({"message": message}, open(folder + "/error.json", "w"))
        sys.exit(1)
    """)
    code = cli.main(["train", *prepared.arguments])
    told = json.loads((prepared.root / "termination-log").read_text())
    shown = "".join(capfd.readouterr()) + told["message"]
    assert (code, told["reason"]) == (1, "TrainingFailed")
    assert "logging in with [redacted]\\x1b[2J" in shown
    assert "01234567" not in shown
    assert "\x1b" not in shown


def test_an_adapter_that_was_changed_on_the_volume_is_not_trained_on(prepared: Scene, torchrun: Torchrun) -> None:
    adapters.continues(prepared)
    continued.provide(prepared.run)
    (prepared.run.adapter_directory / "adapter_config.json").write_text("{}")
    with pytest.raises(PermanentError, match="was changed or taken away after it was prepared") as caught:
        train.main(prepared.context)
    assert caught.value.reason == "InvalidModel"
    assert torchrun.called_with is None


def test_the_first_attempt_says_what_it_begins_with(
    prepared: Scene, torchrun: Torchrun, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters.continues(prepared)
    continued.provide(prepared.run)
    train.main(prepared.context)
    assert "attempt 1 starts from the base model and the adapter of first" in capsys.readouterr().out


def test_training_before_preparation_is_refused(scene: Scene, torchrun: Torchrun) -> None:
    workspace.claim(scene.run)
    with pytest.raises(PermanentError) as caught:
        train.main(scene.context)
    assert caught.value.reason == "PreparationMissing"
    assert torchrun.called_with is None


@pytest.mark.parametrize("worker", ["time.sleep(600)", "sys.exit(1)"], ids=["waits", "fails by itself"])
def test_no_worker_trains_without_its_accelerator(
    prepared: Scene, torch: Torch, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    monkeypatch.setattr("qwensft_trainer.training.torchrun._LOOK_EVERY_SECONDS", 0.1)
    torch.sees(3)
    torchrun.does(worker)
    prepared.document["accelerator"] = {"count": 4}
    with pytest.raises(StageError, match="only 3 of the 4 accelerators") as caught:
        train.main(prepared.context)
    assert caught.value.reason == "AcceleratorMissing"


@pytest.fixture(params=["0 waits for names", "1 waits for names", "0 waits for questions", "1 waits for an answer"])
def waiting(request: pytest.FixtureRequest, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch) -> Torchrun:
    """A node that waits for the other one."""
    node_rank, _, what = request.param.split(maxsplit=2)
    service = "demo-train-1-{}.demo-train"
    known = [service.format(rank) for rank in ("0", "1") if what != "for names" or rank == node_rank]
    monkeypatch.setattr(rendezvous, "_addresses", lambda name, _: ["127.0.0.1"] if name in known else [])
    monkeypatch.setattr(rendezvous, "wait_for_nodes", rendezvous_wait_for_nodes)
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.1)
    os.environ |= {"MASTER_ADDR": service.format(0), "NODE_RANK": node_rank}
    return torchrun


def test_a_pod_without_its_accelerator_does_not_wait_for_the_others(
    prepared: Scene, torch: Torch, waiting: Torchrun
) -> None:
    torch.sees(3)
    prepared.document["accelerator"] = {"count": 4}
    with pytest.raises(StageError, match="only 3 of the 4 accelerators"):
        train.main(prepared.context)
    assert waiting.called_with is None


def test_a_training_on_cpus_needs_no_accelerator(prepared: Scene, torch: Torch, torchrun: Torchrun) -> None:
    torch.sees(0)
    train.main(prepared.context)
    assert torchrun.called_with is not None


def test_numbers_in_the_environment_must_be_numbers(prepared: Scene, torchrun: Torchrun) -> None:
    os.environ["NODE_RANK"] = "zero"
    with pytest.raises(PermanentError, match="NODE_RANK"):
        train.main(prepared.context)
