"""Why training died is told from real error texts, and the cause goes before its consequences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import EXIT_RETRYABLE
from qwensft_trainer.training.failures import read_error_files

from .judging import PEER, cause, worker

CUDA_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (CUDA_OOM, "OutOfMemory"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes", "OutOfMemory"),
        (PEER, "PeerLost"),
        ("torch.distributed.DistBackendError: NCCL error: ncclRemoteError: remote process exited", "PeerLost"),
        ("RuntimeError: Timed out waiting 1800000ms for recv operation to complete", "PeerLost"),
        ("OSError: [Errno 28] No space left on device", "DiskFull"),
        ("RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 576 vs 534", "TrainingFailed"),
        ("safetensors_rust.SafetensorError: I/O error: No space left on device (os error 28)", "DiskFull"),
        ("torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2", "RendezvousTimeout"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "AcceleratorFailed"),
        ("RuntimeError: No CUDA GPUs are available", "AcceleratorMissing"),
        ("RuntimeError: Found no NVIDIA driver on your system. Please check that you have one", "AcceleratorMissing"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "AcceleratorMissing"),
        ("RuntimeError: CUDA error: no CUDA-capable device is detected", "AcceleratorMissing"),
        ("torch.AcceleratorError: CUDA error: invalid device ordinal", "AcceleratorMissing"),
        ("AssertionError: Torch not compiled with CUDA enabled", "AcceleratorMissing"),
        ("KeyError: 'labels'", "TrainingFailed"),
    ],
)
def test_the_reason_follows_from_the_error_text(message: str, reason: str) -> None:
    error = cause([worker(message)], [], 1)
    assert error.reason == reason
    assert error.exit_code == EXIT_RETRYABLE
    assert message[:40] in error.message


def test_an_error_of_many_lines_is_told_from_its_beginning() -> None:
    text = (
        "NotImplementedError: Could not run 'aten::_grouped_mm' on the CPU\n\nCUDA: registered at x.cpp\nMeta: at y.cpp"
    )
    assert (
        "local rank 0: NotImplementedError: Could not run 'aten::_grouped_mm'" in cause([worker(text)], [], 1).message
    )


def test_a_missing_accelerator_is_none_of_the_arguments_faults() -> None:
    where = 'File "/opt/lib/transformers/training_args.py", line 1745, in _setup_devices'
    error = cause([worker("RuntimeError: No CUDA GPUs are available", traceback=where)], [], 1)
    assert (error.reason, error.exit_code) == ("AcceleratorMissing", EXIT_RETRYABLE)
    assert "spec.worker.runtimeClassName" in error.message


def test_a_lost_peer_is_never_the_cause_beside_another_failure() -> None:
    failures = [worker(PEER, time=1.0, rank=0), worker(CUDA_OOM, time=2.0, rank=1)]
    error = cause(failures, [], 1)
    assert error.reason == "OutOfMemory"
    assert "local rank 1" in error.message


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
