"""One node's training, with a torchrun that behaves as the test says: start, end, drain and failure."""

from __future__ import annotations

import json
import os
import signal
import socket
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from qwensft_trainer import cli
from qwensft_trainer.base import metrics_server
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import EXIT_INTERRUPTED, Interrupted, PermanentError, StageError
from qwensft_trainer.contract.stage import StageContext
from qwensft_trainer.stages import train
from qwensft_trainer.training import checkpoints, manifests, pissa, rendezvous, start
from qwensft_trainer.training import torchrun as runner
from qwensft_trainer.training.output import Output
from qwensft_trainer.training.start import Start

from ..conftest import Scene, Torch
from .conftest import TRAINED, Torchrun


@pytest.fixture
def _stopped_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes once torchrun has printed its first line: before it runs, the stage ends in another way."""
    relay = runner._relay

    def stop(stream: IO[str], output: Output) -> None:
        stream.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        relay(stream, output)

    monkeypatch.setattr(runner, "_relay", stop)


def experiment(scene: Scene) -> Experiment:
    return Experiment.of(scene.run, scene.train, None)


def leave_checkpoint(scene: Scene, attempt: int, step: int) -> Path:
    folder = scene.run_directory / "train" / str(attempt) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    record = experiment(scene).document() | {"sealed": True}
    (folder.parent / "attempt.json").write_text(json.dumps(record))
    state = {"global_step": step, "max_steps": 100, "log_history": [{"loss": 4.0}, {"loss": 2.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "adapter_model.safetensors").write_text("weights")
    manifests.seal(folder)
    return folder


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


def test_where_a_merge_follows_the_digest_is_left_to_it(
    prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.document["mergePlanned"] = True
    monkeypatch.setattr("qwensft_trainer.base.files.sha256_of_file", lambda path: pytest.fail(f"read {path}"))
    adapter = train.main(prepared.context).outputs["adapter"]
    sizes = [path.stat().st_size for path in (prepared.run_directory / "train" / "1").iterdir() if path.is_file()]
    attempt = (prepared.run_directory / "train" / "1" / "attempt.json").stat().st_size
    assert adapter == {"path": "support-1/train/1", "sizeBytes": sum(sizes) - attempt}


def test_a_failed_attempt_tells_how_far_it_was_and_when_it_began(prepared: Scene, torchrun: Torchrun) -> None:
    torchrun.does("""
        told = {"step": 7, "attempt": {"training_timestamp_seconds": 5.0, "from_step": 3}}
        json.dump(told, open(scratch + "/progress.json", "w"))
        sys.exit(1)
    """)
    with pytest.raises(StageError) as caught:
        train.main(prepared.context)
    metrics = caught.value.metrics
    assert (metrics["step"], metrics["attemptFromStep"], metrics["attemptTrainingTimestampSeconds"]) == (7, 3, 5.0)
    assert abs(metrics["attemptStartedTimestampSeconds"] - time.time()) < 60


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
    directory = prepared.run_directory / "train" / ("2" if attempt == 2 else "1.2")
    assert (directory / "pissa_init" / "adapter_model.safetensors").read_text() == "initial"
    assert converted == [directory]


def told(scene: Scene, **changes: Any) -> StageContext:
    """The context of another node, whose node rank 0 answers."""
    os.environ["NODE_RANK"] = "1"
    digest = start.digest_of(experiment(scene))
    begun = replace(Start("pod-a", scene.run.owner.uid, 1, digest, output="train/1"), **changes)
    answer = start.Answer(2, lambda: False)
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
    (damaged / "adapter_model.safetensors").write_text("cut")
    train.main(prepared.attempt(3))
    assert completed_arguments(prepared)["resume_from_checkpoint"].endswith("train/1/checkpoint-40")
    assert json.loads((damaged / "qwensft-unusable.json").read_text()) == {
        "why": "adapter_model.safetensors has 3 of 7 bytes"
    }


UNLOADABLE = """
    checkpoint = arguments["resume_from_checkpoint"]
    json.dump({"checkpoint": checkpoint, "why": "EOFError: Ran out of input"}, open(scratch + "/unloadable.json", "w"))
    print("RuntimeError: MESSAGE", file=sys.stderr)
    sys.exit(1)
"""


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


def test_a_training_on_cpus_needs_no_accelerator(prepared: Scene, torch: Torch, torchrun: Torchrun) -> None:
    torch.sees(0)
    train.main(prepared.context)
    assert torchrun.called_with is not None


def test_numbers_in_the_environment_must_be_numbers(prepared: Scene, torchrun: Torchrun) -> None:
    os.environ["NODE_RANK"] = "zero"
    with pytest.raises(PermanentError, match="NODE_RANK"):
        train.main(prepared.context)
