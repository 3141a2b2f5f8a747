"""Finds out why training processes died: from torchelastic's error files, exit signals and the last lines of output.

The cause is the earliest failure that is not PeerLost: a worker that lost its connection only tells that another one
died. Pure functions over text, so that every reason has a test with the real wording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwensft_trainer.errors import PermanentError, StageError, invalid_config


@dataclass(frozen=True)
class WorkerFailure:
    """One failed worker of this node. `time` is Unix seconds; `message` begins with the exception's type."""

    local_rank: int
    time: float
    message: str
    traceback: str = ""


# The first pattern that is found decides, so causes stand before consequences.
_PATTERNS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "OutOfMemory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate|MemoryError"),
        "Lower spec.training.perDeviceTrainBatchSize or cutoffLen, or give the worker more (accelerator) memory.",
    ),
    (
        "DiskFull",
        re.compile(r"No space left on device|Disk quota exceeded|os error 28|Bus error.*shm"),
        "Expand the volume or lower spec.training.saveTotalLimit; if /dev/shm is full, raise spec.worker.sharedMemory.",
    ),
    (
        "RendezvousTimeout",
        re.compile(r"EADDRINUSE|[Aa]ddress already in use"),
        "Another process holds the port, as happens with spec.worker.hostNetwork: set spec.distribution.masterPort to "
        "a free one.",
    ),
    (
        "RendezvousTimeout",
        re.compile(
            r"Timed out after \d+ seconds waiting for clients|RendezvousTimeoutError"
            r"|The client socket has (timed out|failed to connect)|DistStoreError|DistNetworkError"
        ),
        "Not all pods came up in time: look for pods that are not scheduled, or a NetworkPolicy between them.",
    ),
    (
        "InvalidConfig",
        re.compile(r"not used by the HfArgumentParser|llamafactory/hparams/\w+\.py|transformers/training_args\.py"),
        "LLaMA-Factory refuses the training arguments: correct the spec, or the key in spec.extraArguments.",
    ),
    (
        "InvalidConfig",
        re.compile(
            r"Target modules .* not found in the base model|ValueError: Unknown (quantization|scheduler)"
            r"|Module \S+ is not found, please choose from|should be divisible by `num_layer_trainable`"
            r"|Please correct the following DeepSpeed config values|Cannot resize embedding layers"
        ),
        "Correct the field it names in the spec.",
    ),
    (
        "InvalidConfig",
        re.compile(r"bsz should be 1 for neat packing"),
        "With FlashAttention-2, neatPacking takes one sequence at a time: set spec.training.perDeviceTrainBatchSize "
        "(and spec.evaluation.batchSize) to 1 and raise gradientAccumulationSteps, or spec.model.attention to sdpa.",
    ),
    (
        "InvalidConfig",
        re.compile(r"MissingCUDAException|CUDA_HOME does not exist|Unable to JIT load the \S+ op"),
        "DeepSpeed wants to compile an operator with nvcc, which the image lacks: leave the optimizer out of the "
        "DeepSpeed configuration, or set spec.worker.image to an image with a CUDA toolkit.",
    ),
    (
        "PeerLost",
        re.compile(
            r"Connection (closed|reset) by peer|ncclRemoteError|remote process exited|Broken pipe|Socket closed"
            r"|Timed out waiting \d+ms for (recv|send) operation|Watchdog caught collective operation timeout"
            r"|failed to recv, got 0 bytes|Connection was likely closed"
        ),
        "Another process of this training went away; the cause stands in that pod.",
    ),
    (
        "AcceleratorFailed",
        re.compile(r"CUDA error|no kernel image is available|NVIDIA driver|No CUDA GPUs are available|Xid"),
        "Check the accelerator and its driver on this node.",
    ),
)
_SIGNAL = re.compile(r"local_rank: (\d+)\)?.*?exitcode\s*: -(\d+)", re.DOTALL)
_SIGKILL, _SIGTERM = 9, 15


def read_error_files(temporary: Path) -> list[WorkerFailure]:
    """Failures torchelastic's @record has left below `temporary` (torchrun's TMPDIR), earliest first."""
    failures = []
    for path in temporary.glob("torchelastic_*/*/attempt_*/*/error.json"):
        try:
            message = json.loads(path.read_text(encoding="utf-8"))["message"]
            extra = message["extraInfo"]
            failures.append(
                WorkerFailure(
                    local_rank=int(path.parent.name),
                    time=float(extra["timestamp"]),
                    message=str(message["message"]),
                    traceback=str(extra["py_callstack"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(failures, key=lambda failure: failure.time)


def cause(failures: Sequence[WorkerFailure], tail: Iterable[str], exit_code: int) -> StageError:
    """The error to end the stage with. `tail` is the last output of torchrun, `exit_code` its exit code."""
    output = "\n".join(tail)
    errors = [_classify(failure) for failure in failures]
    killed = _killed(output)
    primary = next((error for error in errors if error.reason != "PeerLost"), None)
    # torchrun stops the survivors with SIGTERM (and SIGKILL 30 s later), so a recorded exception goes first.
    if primary is None and killed is not None:
        return killed
    return primary or (errors[0] if errors else None) or _from_output(output, exit_code)


def _classify(failure: WorkerFailure) -> StageError:
    what = " ".join(failure.message.split()) or "no message"
    return _match(f"{failure.message}\n{failure.traceback}", f"local rank {failure.local_rank}: {what:.700}")


def _killed(output: str) -> StageError | None:
    for rank, number in ((int(rank), int(number)) for rank, number in _SIGNAL.findall(output)):
        if number == _SIGKILL:
            return StageError(
                "OutOfMemory",
                f"local rank {rank} was killed by SIGKILL, as happens to a container above its memory limit: raise "
                "spec.worker.resources.limits.memory, or lower spec.training.perDeviceTrainBatchSize or cutoffLen.",
            )
        if number != _SIGTERM:
            return StageError("TrainingFailed", f"local rank {rank} died from signal {number}.")
    return None


def _from_output(output: str, exit_code: int) -> StageError:
    lines = [line for line in output.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if re.match(r"^[\w.]*(Error|Exception)\b", line)), None)
    what = last or (lines[-1] if lines else "no output")
    return _match(output, f"torchrun exited with code {exit_code}: {what:.700}")


def _match(text: str, what: str) -> StageError:
    for reason, pattern, advice in _PATTERNS:
        if pattern.search(text):
            error: StageError = StageError(reason, f"{what} {advice}")
            return _permanent(error) if reason == "InvalidConfig" else error
    return StageError("TrainingFailed", what)


def _permanent(error: StageError) -> PermanentError:
    return invalid_config(error.message)
