"""Why training died is told from real error texts, and the cause goes before its consequences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwensft_trainer.errors import EXIT_PERMANENT, EXIT_RETRYABLE
from qwensft_trainer.failures import WorkerFailure, cause, read_error_files

KILLED = """
[1]:
  time      : 2026-01-01_00:00:00
  host      : support-train-1-0
  rank      : 3 (local_rank: 1)
  exitcode  : -9 (pid: 17)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 17
"""
PEER = "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:29500"
CUDA_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"
)


def worker(message: str, *, time: float = 1.0, rank: int = 0, traceback: str = "") -> WorkerFailure:
    return WorkerFailure(rank, time, message, traceback)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (CUDA_OOM, "OutOfMemory"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes", "OutOfMemory"),
        (PEER, "PeerLost"),
        ("torch.distributed.DistBackendError: NCCL error: ncclRemoteError: remote process exited", "PeerLost"),
        ("RuntimeError: Timed out waiting 1800000ms for recv operation to complete", "PeerLost"),
        ("OSError: [Errno 28] No space left on device", "DiskFull"),
        ("safetensors_rust.SafetensorError: I/O error: No space left on device (os error 28)", "DiskFull"),
        ("torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2", "RendezvousTimeout"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "AcceleratorFailed"),
        ("KeyError: 'labels'", "TrainingFailed"),
    ],
)
def test_the_reason_follows_from_the_error_text(message: str, reason: str) -> None:
    error = cause([worker(message)], [], 1)
    assert error.reason == reason
    assert error.exit_code == EXIT_RETRYABLE
    assert message[:40] in error.message


def test_refused_arguments_are_permanent() -> None:
    text = "ValueError: Some keys are not used by the HfArgumentParser: ['learning_rat']"
    error = cause([worker(text)], [], 1)
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert "learning_rat" in error.message
    assert "spec.extraArguments" in error.message


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ValueError: Module mlpp is not found, please choose from mlp, self_attn", "Correct the field"),
        (
            "ValueError: Please correct the following DeepSpeed config values that mismatch TrainingArguments values:\n"
            "- ds gradient_accumulation_steps=2 vs hf gradient_accumulation_steps=4",
            "hf gradient_accumulation_steps=4",
        ),
        (
            "MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)",
            "leave the optimizer out of the DeepSpeed configuration",
        ),
        ("AssertionError: bsz should be 1 for neat packing", "set spec.training.perDeviceTrainBatchSize"),
    ],
)
def test_what_only_the_spec_can_mend_is_permanent(text: str, advice: str) -> None:
    error = cause([worker(text)], [], 1)
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert advice in error.message


def test_an_error_of_many_lines_is_told_from_its_beginning() -> None:
    text = (
        "NotImplementedError: Could not run 'aten::_grouped_mm' on the CPU\n\nCUDA: registered at x.cpp\nMeta: at y.cpp"
    )
    assert (
        "local rank 0: NotImplementedError: Could not run 'aten::_grouped_mm'" in cause([worker(text)], [], 1).message
    )


def test_a_value_error_out_of_the_argument_parser_is_permanent_too() -> None:
    where = 'File "/opt/lib/llamafactory/hparams/parser.py", line 380, in get_train_args'
    assert cause([worker("ValueError: Please specify max_steps", traceback=where)], [], 1).reason == "InvalidConfig"


def test_a_lost_peer_is_never_the_cause_beside_another_failure() -> None:
    failures = [worker(PEER, time=1.0, rank=0), worker(CUDA_OOM, time=2.0, rank=1)]
    error = cause(failures, [], 1)
    assert error.reason == "OutOfMemory"
    assert "local rank 1" in error.message


def test_a_lost_peer_beside_a_killed_worker_means_the_killed_worker() -> None:
    error = cause([worker(PEER)], KILLED.splitlines(), 1)
    assert error.reason == "OutOfMemory"
    assert "local rank 1 was killed by SIGKILL" in error.message
    assert "spec.worker.resources.limits.memory" in error.message


def test_a_kill_does_not_hide_the_exception_that_came_before_it() -> None:
    # torchrun kills the survivors of a failure: their signal is a consequence.
    assert cause([worker("KeyError: 'labels'")], KILLED.splitlines(), 1).reason == "TrainingFailed"


def test_other_signals_are_named() -> None:
    tail = KILLED.replace("-9", "-11").splitlines()
    assert "died from signal 11" in cause([], tail, 1).message


def test_without_error_files_the_output_tells() -> None:
    tail = ["starting", "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms"]
    error = cause([], tail, 1)
    assert error.reason == "RendezvousTimeout"
    assert "torchrun exited with code 1" in error.message
    assert cause([], [], 3).message == "torchrun exited with code 3: no output"


def test_a_port_that_is_taken_is_not_laid_at_the_other_pods_door() -> None:
    tail = [
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
    ]
    error = cause([], tail, 1)
    assert error.reason == "RendezvousTimeout"
    assert "masterPort" in error.message
    assert "NetworkPolicy" not in error.message


def test_the_last_line_of_the_error_is_in_the_message() -> None:
    text = "RuntimeError: first\nValueError: the last line"
    assert "ValueError: the last line" in cause([worker(text)], [], 1).message


def test_error_files_are_read_in_the_order_of_their_time(tmp_path: Path) -> None:
    for rank, time in ((0, 20.0), (1, 10.0)):
        path = tmp_path / "torchelastic_x" / "none_y" / "attempt_0" / str(rank) / "error.json"
        path.parent.mkdir(parents=True)
        extra = {"py_callstack": "Traceback", "timestamp": str(time)}
        path.write_text(json.dumps({"message": {"message": f"E: {rank}", "extraInfo": extra}}))
    broken = tmp_path / "torchelastic_x" / "none_y" / "attempt_0" / "2" / "error.json"
    broken.parent.mkdir()
    broken.write_text("{")
    assert [failure.local_rank for failure in read_error_files(tmp_path)] == [1, 0]
