"""How one node's training stops before its last step: asked to, left by a peer, or standing still."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from pathlib import Path
from typing import IO

import pytest

from qwensft_trainer.contract.errors import EXIT_INTERRUPTED, Interrupted, StageError
from qwensft_trainer.stages import train
from qwensft_trainer.trackers import process
from qwensft_trainer.training import checkpoints, rendezvous
from qwensft_trainer.training import torchrun as runner
from qwensft_trainer.training.output import Output

from ..conftest import Scene
from .conftest import TRAINED, Torchrun, leave_checkpoint


@pytest.fixture
def _stopped_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes once torchrun has printed its first line: before it runs, the stage ends in another way."""
    relay = runner._relay

    def stop(stream: IO[str], output: Output) -> None:
        stream.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        relay(stream, output)

    monkeypatch.setattr(runner, "_relay", stop)


@pytest.mark.usefixtures("_stopped_in_training")
def test_sigterm_lets_the_workers_save_and_ends_interrupted(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("""
        open(scratch + "/begun", "w").close()
        print("training", flush=True)
        while not os.path.exists(scratch + "/drain"):
            time.sleep(0.02)
        json.dump({"step": 42}, open(scratch + "/drained.json", "w"))
    """)
    with pytest.raises(Interrupted, match=r"this pod was asked to stop; a checkpoint at step 42 is saved") as caught:
        train.main(prepared.context)
    assert caught.value.exit_code == EXIT_INTERRUPTED
    # From here on the kubelet may kill the pod: its last word stands.
    last_word = json.loads((prepared.root / "termination-log").read_text())
    assert (last_word["outcome"], last_word["reason"], last_word["exitCode"]) == ("Interrupted", "Interrupted", 143)


@pytest.mark.usefixtures("_stopped_in_training")
def test_a_pod_that_is_killed_before_it_has_saved_has_left_its_last_word(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("""
        open(scratch + "/begun", "w").close()
        print("training", flush=True)
        while not os.path.exists(scratch + "/drain"):
            time.sleep(0.02)
        time.sleep(0.5)
        sys.exit(1)
    """)
    with pytest.raises(StageError):
        train.main(prepared.context)
    last_word = json.loads((prepared.root / "termination-log").read_text())
    assert (last_word["outcome"], last_word["reason"]) == ("Failed", "KilledBeforeSaved")


# A tracker that takes nothing any more; meanwhile the pod is asked to stop.
AWAY = """
import os, pathlib, signal, sys, time
while '"end"' not in (pathlib.Path(sys.argv[1]) / "lines.jsonl").read_text():
    time.sleep(0.02)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(600)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_sigterm_once_the_workers_have_ended_tells_of_no_checkpoint_and_waits_for_trackers_no_longer(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: bool
) -> None:
    monkeypatch.setattr(process, "_MODULE", ("-c", AWAY))
    monkeypatch.setattr(process, "_ENDING_SECONDS", 60.0)
    prepared.document["trackers"] = {"runName": "support", "wandb": {"project": "ml", "mode": "offline"}}
    if fails:
        torchrun.does("sys.exit(1)")
    began = time.monotonic()
    if fails:
        with pytest.raises(StageError) as caught:
            train.main(prepared.context)
        assert caught.value.reason == "TrainingFailed"
    else:
        assert train.main(prepared.context).metrics["step"] == 100
    assert time.monotonic() - began < 40
    shown = capfd.readouterr().out
    assert "SIGTERM: the workers have ended already" in shown
    assert "save a checkpoint" not in shown
    assert not (prepared.context.scratch / "drain").exists()
    assert not (prepared.root / "termination-log").exists()  # which the stage's caller writes


@pytest.mark.usefixtures("_stopped_in_training")
def test_sigterm_before_the_first_step_ends_the_workers_at_once(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwensft_trainer.training.torchrun._LOOK_EVERY_SECONDS", 0.1)
    torchrun.does("""
        print("loading the model", flush=True)
        time.sleep(60)
    """)
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="before the first step; nothing was lost"):
        train.main(prepared.context)
    assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("_stopped_in_training")
def test_what_a_drain_has_superseded_is_deleted_after_it_was_told(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = leave_checkpoint(prepared, 1, 40)
    word: list[str] = []
    remove = checkpoints.remove_superseded

    def removed(output: Path, limit: int | None) -> list[Path]:
        word.append(json.loads((prepared.root / "termination-log").read_text())["reason"])
        return remove(output, limit)

    monkeypatch.setattr(checkpoints, "remove_superseded", removed)
    torchrun.does("""
        open(scratch + "/begun", "w").close()
        print("training", flush=True)
        while not os.path.exists(scratch + "/drain"):
            time.sleep(0.02)
        folder = output + "/checkpoint-42"
        os.makedirs(folder)
        json.dump({"global_step": 42, "max_steps": 100}, open(folder + "/trainer_state.json", "w"))
        seal(folder)
        json.dump({"step": 42}, open(scratch + "/drained.json", "w"))
    """)
    with pytest.raises(Interrupted):
        train.main(prepared.attempt(2))
    assert word == ["Interrupted"]
    assert not old.exists()


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
        open(scratch + "/begun", "w").close()
        print("training", flush=True)
        while True:
            time.sleep(0.1)
    """)
    with pytest.raises(StageError) as lost:
        train.main(prepared.context)
    assert lost.value.reason == "PeerLost"
    assert "demo-train-1-1.demo-train" in lost.value.message


def test_a_training_that_stands_still_shows_its_stacks_and_ends(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qwensft_trainer.training.torchrun._LOOK_EVERY_SECONDS", 0.1)
    os.environ |= {"NNODES": "1", "QWENSFT_STALL_TIMEOUT_SECONDS": "0.5"}
    torchrun.does("""
        from pathlib import Path
        from qwensft_trainer.training import stalls
        stalls.answer_with_stacks(Path(scratch), 0)
        stalls.Pulse(Path(scratch)).mark(7)
        def waits_for_ever():
            time.sleep(600)
        waits_for_ever()
    """)
    with pytest.raises(StageError, match="after step 7") as caught:
        train.main(prepared.context)
    assert (caught.value.reason, caught.value.exit_code) == ("TrainingStalled", 1)
    shown = capfd.readouterr().out
    assert "stacks of local rank 0" in shown
    assert "in waits_for_ever" in shown
    assert "in waits_for_ever" in (prepared.run_directory / "train" / "1" / "stacks" / "node-0.txt").read_text()


def test_a_training_that_goes_on_is_left_alone(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwensft_trainer.training.torchrun._LOOK_EVERY_SECONDS", 0.1)
    os.environ |= {"NNODES": "1", "QWENSFT_STALL_TIMEOUT_SECONDS": "3"}
    steps = """
    from pathlib import Path
    from qwensft_trainer.training import stalls
    pulse = stalls.Pulse(Path(scratch))
    for step in range(40):  # longer than that; signs of life are left once a second
        pulse.mark(step)
        time.sleep(0.1)
    """
    torchrun.does(textwrap.dedent(steps) + textwrap.dedent(TRAINED))
    assert train.main(prepared.context).metrics["step"] == 100


def test_a_drain_of_another_pod_ends_this_one_interrupted_too(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does('json.dump({"step": 42}, open(scratch + "/drained.json", "w"))')
    with pytest.raises(Interrupted, match="another pod"):
        train.main(prepared.context)
