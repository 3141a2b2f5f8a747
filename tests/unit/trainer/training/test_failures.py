"""Why training died is told from real error texts, and the cause goes before its consequences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE, StageError
from qwensft_trainer.training import failures as under_test
from qwensft_trainer.training.failures import WorkerFailure, read_error_files
from qwensft_trainer.training.output import Output

from .. import error_files
from ..error_files import (
    ARGUMENTS,
    LIBRARIES,
    MODEL,
    PARSER,
    PROCESS_GROUP,
    PYTHON,
    SET_DEVICE,
    TRAINER,
    TRAINING_ARGUMENTS,
)

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


# As torch 2.8's ProcessGroupNCCL writes it; between these lines stand the stack traces of C++.
WATCHDOG = """
[rank{rank}]:[E1129 21:50:11.402913337 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective operation \
timeout: WorkNCCL(SeqNum=913, OpType=ALLREDUCE, NumelIn=8192, NumelOut=8192, Timeout(ms)=9000000) ran for 9000012 \
milliseconds before timing out.
[rank{rank}]:[E1129 21:50:11.402999999 ProcessGroupNCCL.cpp:684] [Rank {rank}] To avoid data inconsistency, we are \
taking the entire process down.
terminate called after throwing an instance of 'c10::DistBackendError'
"""
REMOTE = """
[rank{rank}]:[E1129 21:50:11.4 ProcessGroupNCCL.cpp:1896] [PG ID 0 PG GUID 0(default_pg) Rank {rank}] Process group \
watchdog thread terminated with exception: NCCL error: remote process exited or there was a network error, NCCL \
version 2.27.3
ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.
"""
CUDA = """
[rank{rank}]:[E1129 21:50:11.4 ProcessGroupNCCL.cpp:1896] [PG ID 0 PG GUID 0(default_pg) Rank {rank}] Process group \
watchdog thread terminated with exception: CUDA error: an illegal memory access was encountered
"""


def cause(failures: Sequence[WorkerFailure], printed: Iterable[str], exit_code: int) -> StageError:
    """What is told, where no access was denied, of these error files and of what workers and torchrun have printed."""
    output = Output()
    for line in printed:
        output.add(line)
    return under_test.cause(failures, output, exit_code, lambda _: None)


def summary(*signals: tuple[int, int], root: int = 0, first_rank: int = 0) -> list[str]:
    """torchrun's, of workers that (local rank, signal) have ended; `root` is the index of the one it saw first."""
    blocks = [
        f"[{index}]:\n  time      : 2026-01-01_00:00:00\n  host      : support-train-1-0\n"
        f"  rank      : {first_rank + rank} (local_rank: {rank})\n  exitcode  : -{number} (pid: {17 + rank})\n"
        f"  error_file: <N/A>\n  traceback : Signal {number} received by PID {17 + rank}"
        for index, (rank, number) in enumerate(signals)
    ]
    rule, last = "-" * 60, blocks.pop(root)
    text = ["qwensft_trainer.training.worker FAILED", rule, "Failures:", *(blocks or ["  <NO_OTHER_FAILURES>"])]
    return "\n".join([*text, rule, "Root Cause (first observed failure):", last]).splitlines()


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


TRANSIENT = {
    "a port that somebody else holds": (
        "RendezvousTimeout",
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        PROCESS_GROUP,
    ),
    "a master that does not answer": (
        "RendezvousTimeout",
        "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to "
        "(demo-train-1-0.demo-train, 29500).",
        PROCESS_GROUP,
    ),
    "a name that does not resolve": (
        "RendezvousTimeout",
        "torch.distributed.DistNetworkError: The IPv4 network addresses of (demo-train-1-0.demo-train, 29500) cannot "
        "be retrieved (gai error: -2 - Name or service not known).",
        PROCESS_GROUP,
    ),
    "a peer that never comes": (
        "RendezvousTimeout",
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.",
        PROCESS_GROUP,
    ),
    "a peer lost in the rendezvous": (
        "PeerLost",
        "torch.distributed.DistNetworkError: failed to recv, got 0 bytes. Connection was likely closed. Did the remote "
        "server shutdown or crash?",
        PROCESS_GROUP,
    ),
    "a peer's connection reset": (
        "PeerLost",
        "torch.distributed.DistNetworkError: Connection reset by peer",
        PROCESS_GROUP,
    ),
    "gloo without its peers": (
        "RendezvousTimeout",
        "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
        PROCESS_GROUP,
    ),
    "an environment without the rendezvous": (
        "TrainingFailed",
        "ValueError: Error initializing torch.distributed using env:// rendezvous: environment variable MASTER_ADDR "
        "expected, but not set",
        PROCESS_GROUP,
    ),
    "an accelerator that another process fills": (
        "OutOfMemory",
        "torch.AcceleratorError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at "
        "some other API call, so the stacktrace below might be incorrect.",
        SET_DEVICE,
    ),
    "an accelerator that is not there": (
        "AcceleratorMissing",
        "RuntimeError: CUDA error: invalid device ordinal\nCUDA kernel errors might be asynchronously reported at some "
        "other API call, so the stacktrace below might be incorrect.",
        SET_DEVICE,
    ),
    "a driver in trouble": (
        "AcceleratorFailed",
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
        "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero.",
        SET_DEVICE,
    ),
    "a node whose driver shows no accelerator": (
        "AcceleratorFailed",
        "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on "
        "CPU.",
        (*TRAINING_ARGUMENTS, (f"{LIBRARIES}/transformers/training_args.py", "_validate_args")),
    ),
    "a library of the driver that is not mounted": (
        "AcceleratorFailed",
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        (*PARSER, (f"{LIBRARIES}/torch/__init__.py", "<module>")),
    ),
    "the volume of the arguments' files": (
        "TrainingFailed",
        "OSError: [Errno 116] Stale file handle: '/workspace/support-1/data/deepspeed.json'",
        (*TRAINING_ARGUMENTS, (f"{LIBRARIES}/transformers/integrations/deepspeed.py", "__init__")),
    ),
    "a full volume": (
        "DiskFull",
        "OSError: [Errno 28] No space left on device: '/workspace/support-1/train/1'",
        TRAINING_ARGUMENTS,
    ),
    "a file of weights that cannot be read": (
        "TrainingFailed",
        "safetensors_rust.SafetensorError: Error while deserializing header: I/O error: Input/output error "
        "(os error 5)",
        MODEL,
    ),
    "shared memory used up": (
        "DiskFull",
        "RuntimeError: DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that dataloader's "
        "workers are out of shared memory. Please try to raise your shared memory limit.",
        TRAINER,
    ),
    "an operator that this node cannot compile": (
        "TrainingFailed",
        "RuntimeError: Unable to JIT load the cpu_adam op due to it not being compatible due to hardware/software "
        "issue. None",
        TRAINER,
    ),
    "an error of the library's own": ("TrainingFailed", "KeyError: 'labels'", TRAINER),
}

REFUSED = {
    "an unknown key": (
        "ValueError: Some keys are not used by the HfArgumentParser: ['learning_rat']",
        ARGUMENTS,
        "spec.extraArguments",
    ),
    "two that exclude each other": (
        "ValueError: `mask_history` is incompatible with `train_on_prompt`.",
        (*ARGUMENTS, ("<string>", "__init__"), (f"{LIBRARIES}/llamafactory/hparams/data_args.py", "__post_init__")),
        "correct the spec",
    ),
    "a value of another type": (
        "TypeError: '>' not supported between instances of 'str' and 'int'",
        (*TRAINING_ARGUMENTS, (f"{LIBRARIES}/transformers/training_args.py", "_validate_args")),
        "correct the spec",
    ),
    "a name that is none of a choice": (
        "ValueError: sometimes is not a valid SchedulerType, please select one of ['linear', 'cosine']",
        (
            *TRAINING_ARGUMENTS,
            (f"{PYTHON}/enum.py", "__call__"),
            (f"{LIBRARIES}/transformers/utils/generic.py", "_missing_"),
        ),
        "correct the spec",
    ),
    "a mapping that is no JSON": (
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        (*TRAINING_ARGUMENTS, (f"{PYTHON}/json/__init__.py", "loads"), (f"{PYTHON}/json/decoder.py", "raw_decode")),
        "correct the spec",
    ),
    "an unknown method": (
        "AssertionError: Invalid fine-tuning method.",
        (
            *ARGUMENTS,
            ("<string>", "__init__"),
            (f"{LIBRARIES}/llamafactory/hparams/finetuning_args.py", "__post_init__"),
        ),
        "correct the spec",
    ),
    "a package that the image lacks": (
        "importlib.metadata.PackageNotFoundError: No package metadata was found for The 'galore_torch' distribution "
        "was not found and is required by this application.",
        (
            *PARSER,
            (f"{LIBRARIES}/llamafactory/hparams/parser.py", "_check_extra_dependencies"),
            (f"{LIBRARIES}/llamafactory/extras/misc.py", "check_version"),
            (f"{LIBRARIES}/transformers/utils/versions.py", "require_version"),
        ),
        "correct the spec",
    ),
    "a target that the model has not": (
        "ValueError: Target modules {'q_prj'} not found in the base model. Please check the target modules and try "
        "again.",
        (*MODEL, (f"{LIBRARIES}/peft/tuners/tuners_utils.py", "inject_adapter")),
        "Correct the field",
    ),
    "a module that the model has not": (
        "ValueError: Module mlpp is not found, please choose from mlp, self_attn",
        (*MODEL, (f"{LIBRARIES}/llamafactory/model/adapter.py", "_setup_freeze_tuning")),
        "Correct the field",
    ),
    "a DeepSpeed configuration that says otherwise": (
        "ValueError: Please correct the following DeepSpeed config values that mismatch TrainingArguments values:\n"
        "- ds gradient_accumulation_steps=2 vs hf gradient_accumulation_steps=4",
        (*TRAINER, (f"{LIBRARIES}/transformers/integrations/deepspeed.py", "trainer_config_finalize")),
        "hf gradient_accumulation_steps=4",
    ),
    "an optimizer that wants a compiler": (
        "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)",
        (*TRAINER, (f"{LIBRARIES}/deepspeed/ops/op_builder/builder.py", "installed_cuda_version")),
        "leave the optimizer out of the DeepSpeed configuration",
    ),
    "neat packing of a batch": (
        "AssertionError: bsz should be 1 for neat packing",
        (*TRAINER, (f"{LIBRARIES}/llamafactory/data/collator.py", "__call__")),
        "set spec.training.perDeviceTrainBatchSize",
    ),
}


def name_of(exception: str) -> str:
    """The type's name without its module."""
    return exception.partition(":")[0].rpartition(".")[2]


def cause_of(temporary: Path, callstack: str) -> StageError:
    """What is told of a worker that left this traceback in its error file."""
    error_files.write(temporary, callstack)
    return cause(read_error_files(temporary), ["[rank0]: " + line for line in callstack.splitlines()], 1)


@pytest.mark.parametrize(("reason", "exception", "frames"), TRANSIENT.values(), ids=TRANSIENT)
def test_what_may_pass_is_tried_again(
    tmp_path: Path, reason: str, exception: str, frames: tuple[error_files.Frame, ...]
) -> None:
    error = cause_of(tmp_path, error_files.traceback(exception, *frames))
    assert (error.reason, error.exit_code) == (reason, EXIT_RETRYABLE)
    assert f"local rank 0: {name_of(exception)}" in error.message


@pytest.mark.parametrize(("exception", "frames", "advice"), REFUSED.values(), ids=REFUSED)
def test_what_only_the_spec_can_mend_is_permanent(
    tmp_path: Path, exception: str, frames: tuple[error_files.Frame, ...], advice: str
) -> None:
    error = cause_of(tmp_path, error_files.traceback(exception, *frames))
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert advice in error.message
    assert "local rank 0" in error.message


@pytest.mark.parametrize(("exception", "frames", "advice"), REFUSED.values(), ids=REFUSED)
def test_the_output_alone_ends_no_run_for_good(
    exception: str, frames: tuple[error_files.Frame, ...], advice: str
) -> None:
    tail = error_files.traceback(exception, *frames).splitlines()
    error = cause([], tail, 1)
    assert error.exit_code == EXIT_RETRYABLE
    assert name_of(exception) in error.message


@pytest.mark.parametrize(("exception", "frames", "advice"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_that_an_input_output_error_led_to_is_tried_again(
    tmp_path: Path, exception: str, frames: tuple[error_files.Frame, ...], advice: str
) -> None:
    stale = error_files.traceback("OSError: [Errno 116] Stale file handle: '/workspace/x.json'", *frames)
    callstack = error_files.raised_from(stale, error_files.traceback(exception, *frames))
    assert cause_of(tmp_path, callstack).exit_code == EXIT_RETRYABLE


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


def test_a_lost_peer_beside_a_killed_worker_means_the_killed_worker() -> None:
    error = cause([worker(PEER)], KILLED.splitlines(), 1)
    assert error.reason == "OutOfMemory"
    assert "local rank 1 was killed by SIGKILL" in error.message
    assert "spec.worker.resources.limits.memory" in error.message


def test_a_kill_does_not_hide_the_exception_that_came_before_it() -> None:
    # torchrun kills the survivors of a failure: their signal is a consequence.
    assert cause([worker("KeyError: 'labels'")], KILLED.splitlines(), 1).reason == "TrainingFailed"


def test_a_kill_is_laid_at_the_rank_that_was_killed() -> None:
    # A rank that failed by itself stands before it in torchrun's summary.
    failed = KILLED.replace("local_rank: 1", "local_rank: 0").replace("exitcode  : -9", "exitcode  : 1")
    assert "local rank 1 was killed" in cause([], (failed + KILLED).splitlines(), 1).message


def test_a_bus_error_tells_of_shared_memory() -> None:
    assert "spec.worker.sharedMemory" in cause([], KILLED.replace("-9", "-7").splitlines(), 1).message


def test_other_signals_are_named() -> None:
    tail = KILLED.replace("-9", "-11").splitlines()
    assert "died from signal 11" in cause([], tail, 1).message


@pytest.mark.parametrize(
    ("words", "reason", "told"),
    [
        (WATCHDOG, "PeerLost", "[Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=913"),
        (REMOTE, "PeerLost", "watchdog thread terminated with exception: NCCL error: remote process exited"),
        (CUDA, "AcceleratorFailed", "CUDA error: an illegal memory access"),
    ],
)
def test_an_abort_of_nccls_watchdog_is_told_by_its_words(words: str, reason: str, told: str) -> None:
    printed = [*words.format(rank=5).splitlines(), *summary((1, 6), first_rank=4)]
    error = cause([], printed, 1)
    assert (error.reason, error.exit_code) == (reason, EXIT_RETRYABLE)
    assert error.message.startswith("local rank 1 died from signal 6 (SIGABRT): ")
    assert told in error.message


def test_words_of_another_rank_are_not_laid_at_the_one_that_aborted() -> None:
    error = cause([], [*WATCHDOG.format(rank=0).splitlines()[:3], *summary((1, 6))], 1)
    assert (error.reason, error.message) == ("TrainingFailed", "local rank 1 died from signal 6 (SIGABRT).")


def test_an_abort_without_a_rank_in_its_words_is_told_by_them() -> None:
    printed = ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"]
    error = cause([], [*printed, *summary((0, 6))], 1)
    assert error.reason == "OutOfMemory"


def test_a_rank_that_was_killed_goes_before_those_that_aborted_for_it() -> None:
    words = [line for rank in (0, 2) for line in REMOTE.format(rank=rank).splitlines()]
    for root in range(3):
        error = cause([], [*words, *summary((0, 6), (1, 9), (2, 6), root=root)], 1)
        assert error.reason == "OutOfMemory"
        assert error.message.startswith("local rank 1 was killed by SIGKILL")


def test_of_several_that_died_the_first_one_is_named() -> None:
    assert "local rank 1 died from signal 11" in cause([], summary((0, 4), (1, 11), root=1), 1).message


def test_the_words_before_an_abort_outlast_the_stack_traces_of_all_ranks() -> None:
    frames = [f"frame #{number}: c10d::ProcessGroupNCCL::Watchdog::run() + 0x123" for number in range(1000)]
    assert cause([], [*REMOTE.format(rank=0).splitlines(), *frames, *summary((0, 6))], 1).reason == "PeerLost"


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
