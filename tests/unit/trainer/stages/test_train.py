"""One node's training, with a torchrun that behaves as the test says: start, end, drain and failure."""

from __future__ import annotations

import collections
import json
import os
import signal
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from qwensft_trainer import cli
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.digest import configuration_digest
from qwensft_trainer.contract.errors import EXIT_INTERRUPTED, Interrupted, PermanentError, StageError
from qwensft_trainer.stages import train
from qwensft_trainer.training import pissa, rendezvous
from qwensft_trainer.training import torchrun as runner

from ..conftest import Scene, Torch
from .conftest import TRAINED, Torchrun


@pytest.fixture
def _stopped_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes once torchrun has printed its first line: before it runs, the stage ends in another way."""
    relay = runner._relay

    def stop(stream: IO[str], tail: collections.deque[str]) -> None:
        stream.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        relay(stream, tail)

    monkeypatch.setattr(runner, "_relay", stop)


def leave_checkpoint(scene: Scene, attempt: int, step: int) -> None:
    folder = scene.run_directory / "train" / str(attempt) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    digest = configuration_digest(scene.run, scene.train)
    (folder.parent / "attempt.json").write_text(json.dumps({"configDigest": digest}))
    state = {"global_step": step, "max_steps": 100, "log_history": [{"loss": 4.0}, {"loss": 2.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "adapter_model.safetensors").write_text("weights")


def completed_arguments(scene: Scene) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((scene.root / "scratch" / "train.yaml").read_text())
    return loaded


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


def test_a_completed_run_is_never_started_again(prepared: Scene, torchrun: Torchrun) -> None:
    first = train.main(prepared.context)
    (torchrun.directory / "calls").unlink()
    again = train.main(prepared.attempt(2))
    assert torchrun.called_with is None
    assert (again.outputs, again.metrics["loss"]) == (first.outputs, first.metrics["loss"])


def test_a_completed_run_of_another_configuration_is_not_ours(prepared: Scene, torchrun: Torchrun) -> None:
    train.main(prepared.context)
    prepared.train["learning_rate"] = 1e-4
    with pytest.raises(PermanentError) as caught:
        train.main(prepared.attempt(2))
    assert caught.value.reason == "OutputExists"


def test_the_next_attempt_resumes_and_says_so_to_the_others(prepared: Scene, torchrun: Torchrun) -> None:
    leave_checkpoint(prepared, 1, 60)
    train.main(prepared.attempt(2))
    assert completed_arguments(prepared)["resume_from_checkpoint"] == str(
        prepared.run_directory / "train" / "1" / "checkpoint-60"
    )
    decision = json.loads((prepared.run_directory / "train" / "2" / "attempt.json").read_text())
    assert (decision["resumeFrom"], decision["resumeStep"]) == ("train/1/checkpoint-60", 60)


def test_an_attempt_that_died_after_its_last_step_needs_no_training(prepared: Scene, torchrun: Torchrun) -> None:
    leave_checkpoint(prepared, 1, 100)
    result = train.main(prepared.attempt(2))
    assert torchrun.called_with is None
    assert result.outputs["adapter"]["path"] == "support-1/train/1"
    assert (prepared.run_directory / "train" / "1" / "adapter_model.safetensors").read_text() == "weights"
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
    directory = prepared.run_directory / "train" / str(attempt)
    assert (directory / "pissa_init" / "adapter_model.safetensors").read_text() == "initial"
    assert converted == [directory]


def test_another_node_follows_the_decision(prepared: Scene, torchrun: Torchrun) -> None:
    os.environ["NODE_RANK"] = "1"
    torchrun.does("pass")
    decision = prepared.run_directory / "train" / "1" / "attempt.json"
    decision.parent.mkdir(parents=True)
    decision.write_text(json.dumps({"ownerUid": prepared.run.owner.uid, "resumeFrom": "train/0/checkpoint-7"}))
    train.main(prepared.context)
    assert completed_arguments(prepared)["resume_from_checkpoint"].endswith("train/0/checkpoint-7")
    assert not (prepared.run_directory / "train.json").exists()


def test_another_node_does_not_wait_for_a_decision_for_ever(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ["NODE_RANK"] = "1"
    wait = rendezvous.wait_for_decision
    monkeypatch.setattr(rendezvous, "wait_for_decision", lambda path, uid: wait(path, uid, limit=0.05))
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    assert caught.value.reason == "RendezvousTimeout"


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


@pytest.mark.usefixtures("_stopped_in_training")
def test_sigterm_lets_the_workers_save_and_ends_interrupted(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("""
        print("training", flush=True)
        while not os.path.exists(scratch + "/drain"):
            time.sleep(0.02)
        json.dump({"step": 42}, open(scratch + "/drained.json", "w"))
    """)
    with pytest.raises(Interrupted, match=r"this pod was asked to stop; a checkpoint at step 42 is saved") as caught:
        train.main(prepared.context)
    assert caught.value.exit_code == EXIT_INTERRUPTED
    # Should the kubelet have killed the pod before, this would have been its last word.
    last_word = json.loads((prepared.root / "termination-log").read_text())
    assert (last_word["outcome"], last_word["reason"]) == ("Failed", "KilledBeforeSaved")


@pytest.mark.usefixtures("_stopped_in_training")
def test_a_gang_that_lost_a_pod_stops_at_once_when_asked_to_though_torchrun_would_wait(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwensft_trainer.training.peers.GONE_SECONDS", 0.0)
    monkeypatch.setattr("qwensft_trainer.training.peers._resolves", lambda name: "train-1-1" not in name)
    monkeypatch.setattr("qwensft_trainer.training.torchrun._LOOK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr("qwensft_trainer.training.torchrun._STOP_SECONDS", 0.2)
    monkeypatch.setattr(rendezvous, "wait_for_name", lambda *_, **__: None)
    os.environ["MASTER_ADDR"] = "demo-train-1-0.demo-train"
    torchrun.does("""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("training", flush=True)
        while True:
            time.sleep(0.1)
    """)
    with pytest.raises(StageError) as lost:
        train.main(prepared.context)
    assert lost.value.reason == "PeerLost"
    assert "demo-train-1-1.demo-train" in lost.value.message


def test_a_drain_of_another_pod_ends_this_one_interrupted_too(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does('json.dump({"step": 42}, open(scratch + "/drained.json", "w"))')
    with pytest.raises(Interrupted, match="another pod"):
        train.main(prepared.context)


def test_training_before_preparation_is_refused(scene: Scene, torchrun: Torchrun) -> None:
    workspace.claim(scene.run)
    with pytest.raises(PermanentError) as caught:
        train.main(scene.context)
    assert caught.value.reason == "PreparationMissing"
    assert torchrun.called_with is None


def test_no_worker_starts_without_its_accelerator(prepared: Scene, torch: Torch, torchrun: Torchrun) -> None:
    torch.sees(3)
    prepared.document["accelerator"] = {"count": 4}
    with pytest.raises(StageError, match="only 3 of the 4 accelerators") as caught:
        train.main(prepared.context)
    assert caught.value.reason == "AcceleratorMissing"
    assert torchrun.called_with is None


def test_a_training_on_cpus_needs_no_accelerator(prepared: Scene, torch: Torch, torchrun: Torchrun) -> None:
    torch.sees(0)
    train.main(prepared.context)
    assert torchrun.called_with is not None


def test_numbers_in_the_environment_must_be_numbers(prepared: Scene, torchrun: Torchrun) -> None:
    os.environ["NODE_RANK"] = "zero"
    with pytest.raises(PermanentError, match="NODE_RANK"):
        train.main(prepared.context)
