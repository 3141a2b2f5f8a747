"""Processes that a signal has ended leave no error file: what they died of is read from the output."""

from __future__ import annotations

import pytest

from qwensft_trainer.contract.errors import EXIT_RETRYABLE

from .judging import PEER, cause, worker

KILLED = """
[1]:
  time      : 2026-01-01_00:00:00
  host      : support-train-1-0
  rank      : 3 (local_rank: 1)
  exitcode  : -9 (pid: 17)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 17
"""


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
