"""Finds out why training processes died: from torchelastic's error files, exit signals and the last lines of output.

The cause is the earliest failure that is not PeerLost: a worker that lost its connection only tells that another one
died, also when NCCL's watchdog aborts it (ADR 0130). Only an error file, with an exception of the right type and
origin, ends a run for good (ADR 0071). Functions over text, so that every reason has a test with the real wording; what
a denied access means is asked where it happened.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwensft_trainer.base.causes import STORAGE_ADVICE, STORAGE_ERRNOS
from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.access import error_told
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_config
from qwensft_trainer.training.accelerators import MISSING_ADVICE
from qwensft_trainer.training.output import Output
from qwensft_trainer.training.summary import Killed, killed
from qwensft_trainer.training.tracebacks import Raised, parse, parse_exception


@dataclass(frozen=True)
class WorkerFailure:
    """One failed worker of this node. `time` is Unix seconds; `message` begins with the exception's type."""

    local_rank: int
    time: float
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class _Rule:
    """`pattern` is searched in "Type: message" of an exception and of those it was raised from."""

    reason: str
    pattern: re.Pattern[str]
    advice: str

    def fits(self, chain: Sequence[Raised]) -> bool:
        return any(self.pattern.search(raised.text) for raised in chain)


@dataclass(frozen=True)
class _Refusal:
    """What only another spec can mend, by the exception that ended the worker alone: its type, and its text or origin.

    With `raised_in`, the exception went through one of the modules that judge arguments and was raised in one of them,
    the standard library aside: process group and devices are initialised below them, too.
    """

    types: frozenset[str]
    advice: str
    pattern: re.Pattern[str] = re.compile("")
    raised_in: re.Pattern[str] | None = None

    def fits(self, raised: Raised) -> bool:
        if raised.type not in self.types or not self.pattern.search(raised.message):
            return False
        if self.raised_in is None:
            return True
        own = [file for file in raised.files if not _STANDARD_LIBRARY.search(file)]
        return bool(own) and any(_ARGUMENTS.search(file) for file in own) and bool(self.raised_in.search(own[-1]))


UNWRITABLE = "PyTorch could not write a file"
_STORAGE = "|".join(str(number) for number in sorted(STORAGE_ERRNOS))

# What comes of the machine, the network or the volume, and so may pass. The first rule that fits decides; none of the
# refusals is looked at then.
_RULES: tuple[_Rule, ...] = (
    _Rule(
        "OutOfMemory",
        re.compile(
            r"OutOfMemoryError|^MemoryError|out of memory|can't allocate memory|Cannot allocate|\[Errno 12\]"
            r"|CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc"
        ),
        "Lower spec.training.perDeviceTrainBatchSize or cutoffLen, or give the worker more (accelerator) memory.",
    ),
    _Rule(
        "DiskFull",
        re.compile(
            r"No space left on device|Disk quota exceeded|os error 28|Bus error.*(shm|shared memory)", re.DOTALL
        ),
        "Expand the claim of spec.storage.volume (its spec.resources.requests.storage) or lower "
        "spec.training.saveTotalLimit; if /dev/shm is full, raise spec.worker.sharedMemory.",
    ),
    _Rule(
        "RendezvousTimeout",
        re.compile(r"EADDRINUSE|[Aa]ddress already in use"),
        "Another process holds the port, as happens with spec.worker.hostNetwork: set spec.distribution.masterPort to "
        "a free one.",
    ),
    _Rule(
        "PeerLost",
        re.compile(
            r"Connection (closed|reset) by peer|ncclRemoteError|remote process exited|Broken pipe|Socket closed"
            r"|Timed out waiting \d+ms for (recv|send) operation|Watchdog caught collective operation timeout"
            r"|collective timeout|communicator was aborted"
            r"|failed to recv, got 0 bytes|Connection was likely closed"
        ),
        "Another process of this training went away; the cause stands in that pod.",
    ),
    _Rule(
        "RendezvousTimeout",
        re.compile(
            r"Timed out after \d+ seconds waiting for clients|RendezvousTimeoutError|DistStoreError|DistNetworkError"
            r"|The client socket has (timed out|failed to connect)|connectFullMesh failed|ConnectionRefusedError"
        ),
        "Not all pods came up in time: look for pods that are not scheduled, or a NetworkPolicy between them.",
    ),
    _Rule(  # before the errors of a driver that answers
        "AcceleratorMissing",
        re.compile(
            r"No (CUDA|HIP) GPUs are available|Found no NVIDIA driver|NVIDIA driver on your system is too old"
            r"|CUDA driver version is insufficient|no CUDA-capable device|invalid device ordinal"
            r"|Torch not compiled with CUDA enabled"
        ),
        MISSING_ADVICE,
    ),
    _Rule(
        "AcceleratorFailed",
        re.compile(r"setup doesn't support bf16|does not support `pure_bf16`|requires Ampere or a newer GPU"),
        "No accelerator with this number format answers on this node: check its driver, or change "
        "spec.training.precision.",
    ),
    _Rule(
        "AcceleratorFailed",
        re.compile(
            r"AcceleratorError|CUDA (unknown )?error|CUDA driver|Cuda failure|no kernel image is available"
            r"|NVIDIA driver|\bXid\b|ncclUnhandledCudaError|CU(BLAS|DNN)_STATUS_"
            r"|libcuda\S* cannot open shared object"
        ),
        "Check the accelerator and its driver on this node.",
    ),
    _Rule("TrainingFailed", re.compile(rf"\[Errno ({_STORAGE})\]|\(os error ({_STORAGE})\)"), STORAGE_ADVICE),
    _Rule(
        "TrainingFailed",
        re.compile(r"inline_container\.cc|PytorchStreamWriter|iostream error"),
        f"{UNWRITABLE}, and does not say why: the volume is full (expand the claim of spec.storage.volume, or lower "
        "spec.training.saveTotalLimit) or failed. It is tried again.",
    ),
    _Rule(
        "TrainingFailed",
        re.compile(r"Unable to JIT load the \S+ op due to it not being compatible"),
        "DeepSpeed cannot compile an operator on this node: check the accelerator's driver; if the image lacks nvcc, "
        "leave the optimizer out of the DeepSpeed configuration, or set spec.worker.image to an image with a CUDA "
        "toolkit.",
    ),
)

_REFUSED = frozenset({"ValueError", "JSONDecodeError", "TypeError", "AttributeError", "AssertionError"})
_MISSING_PACKAGE = frozenset({"ImportError", "ModuleNotFoundError", "PackageNotFoundError"})
_UNPARSABLE = frozenset({"ArgumentError", "ArgumentTypeError", "NotImplementedError"})
_STANDARD_LIBRARY = re.compile(r"^<|/lib/python3\.\d+/(?!(site|dist)-packages/)")
_ARGUMENTS = re.compile(r"/llamafactory/hparams/\w+\.py$|/transformers/(training_args|hf_argparser)\.py$")
# Where the libraries raise what they think of the arguments: never in torch, accelerate's state or DeepSpeed's runtime.
_JUDGES = re.compile(
    _ARGUMENTS.pattern + r"|/llamafactory/extras/misc\.py$|/transformers/training_args_seq2seq\.py$"
    r"|/transformers/(debug_utils|trainer_utils|trainer_pt_utils|utils/generic|utils/versions|integrations/deepspeed)\.py$"
    r"|/accelerate/utils/dataclasses\.py$|/omegaconf/"
)

_REFUSALS: tuple[_Refusal, ...] = (
    _Refusal(
        _REFUSED | _MISSING_PACKAGE | _UNPARSABLE,
        "LLaMA-Factory refuses the training arguments: correct the spec, or the key in spec.extraArguments.",
        raised_in=_JUDGES,
    ),
    _Refusal(
        frozenset({"ValueError"}),
        "Correct the field it names in the spec.",
        re.compile(
            r"Target modules .* not found in the base model|^Unknown (quantization|scheduler)"
            r"|Module \S+ is not found, please choose from|should be divisible by `num_layer_trainable`"
            r"|Please correct the following DeepSpeed config values|Cannot resize embedding layers",
            re.DOTALL,
        ),
    ),
    _Refusal(
        frozenset({"AssertionError"}),
        "With FlashAttention-2, neatPacking takes one sequence at a time: set spec.training.perDeviceTrainBatchSize "
        "(and spec.evaluation.batchSize) to 1 and raise gradientAccumulationSteps, or spec.model.attention to sdpa.",
        re.compile(r"bsz should be 1 for neat packing"),
    ),
    _Refusal(
        frozenset({"MissingCUDAException"}),
        "DeepSpeed wants to compile an operator with nvcc, which the image lacks: leave the optimizer out of the "
        "DeepSpeed configuration, or set spec.worker.image to an image with a CUDA toolkit.",
    ),
)
# The first line of an exception in the output; what torchrun raises for a worker that died says nothing itself.
_EXCEPTION_LINE = re.compile(r"^(?:\[rank\d+\]:\s*)?(?!\S*ChildFailedError)[\w.]*(?:Error|Exception)\b.*", re.MULTILINE)
_OF_A_RANK = re.compile(r"\b[Rr]ank ?\d+\]")
_MARK = re.compile(r"^\[rank\d+\]:\s*(\[[EFW]\d+ [^\]]*\] )?")
_SIGKILL_ADVICE = (
    "was killed by SIGKILL, as happens to a container above its memory limit: raise "
    "spec.worker.resources.limits.memory, or lower spec.training.perDeviceTrainBatchSize or cutoffLen."
)
_SIGBUS_ADVICE = (
    "died from signal 7 (SIGBUS): /dev/shm is full (raise spec.worker.sharedMemory), or the volume failed under a file "
    "that is mapped into memory."
)


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
                    message=clean(str(message["message"])),  # before it is shortened
                    traceback=clean(str(extra["py_callstack"])),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(failures, key=lambda failure: failure.time)


Judge = Callable[[OSError], StageError | None]
"""What to say of an error of the system when it tells that a volume may not be used; None when it does not."""


def cause(failures: Sequence[WorkerFailure], output: Output, exit_code: int, denied: Judge) -> StageError:
    """The error to end the stage with. `output` is what torchrun and the workers printed, `exit_code` torchrun's."""
    tail = "\n".join(output.tail)
    raised = [_classify(failure, denied) for failure in failures]
    # torchrun stops the survivors with SIGTERM (and SIGKILL 30 s later), so a recorded exception goes first.
    signalled = [_signalled(worker, output) for worker in killed(tail) if worker.signal != signal.SIGTERM]
    known = [*raised, *signalled]
    return next((error for error in known if error.reason != "PeerLost"), None) or next(
        iter(known), _from_output(tail, exit_code)
    )


def _classify(failure: WorkerFailure, denied: Judge) -> StageError:
    what = f"local rank {failure.local_rank}: {' '.join(failure.message.split()) or 'no message':.700}"
    chain = parse(failure.traceback) or [parse_exception(failure.message) or Raised("Exception", failure.message)]
    denials = [None if told is None else denied(told) for told in (error_told(r.type, r.message) for r in chain)]
    if (last := denials[-1]) is not None:
        kind = PermanentError if isinstance(last, PermanentError) else StageError
        return kind(last.reason, f"local rank {failure.local_rank}: {last.message}")
    if rule := _rule_for(chain):
        return StageError(rule.reason, f"{what} {rule.advice}")
    if refusal := next((refusal for refusal in _REFUSALS if refusal.fits(chain[-1])), None):
        return invalid_config(f"{what} {refusal.advice}")
    if before := next(filter(None, denials), None):  # what came of it may have had another cause
        return StageError(before.reason, f"{what} Before that: {before.message}")
    return StageError("TrainingFailed", what)


def _signalled(worker: Killed, output: Output) -> StageError:
    who = f"local rank {worker.local_rank}"
    if worker.signal == signal.SIGKILL:
        return StageError("OutOfMemory", f"{who} {_SIGKILL_ADVICE}")
    if worker.signal == signal.SIGBUS:
        return StageError("TrainingFailed", f"{who} {_SIGBUS_ADVICE}")
    name = f" ({signal.Signals(worker.signal).name})" if worker.signal in set(signal.Signals) else ""
    what = f"{who} died from signal {worker.signal}{name}"
    words = _last_words_of(worker, output.last_words) if worker.signal == signal.SIGABRT else []
    if not words:
        return StageError("TrainingFailed", f"{what}.")
    what = f"{what}: {words[0]:.700}"
    rule = _rule_for([Raised("", "\n".join(words))])
    return StageError(rule.reason, f"{what} {rule.advice}") if rule else StageError("TrainingFailed", what)


def _last_words_of(worker: Killed, words: Sequence[str]) -> list[str]:
    """The lines of this very rank, which NCCL's carry; if none does, those that are of no rank."""
    own = re.compile(rf"\b[Rr]ank ?{worker.rank}\]")
    return [_without_mark(line) for line in words if own.search(line)] or [
        line.strip() for line in words if not _OF_A_RANK.search(line)
    ]


def _without_mark(line: str) -> str:
    """A line of glog's without "[rank1]:[E1119 12:00:00.123456789 ProcessGroupNCCL.cpp:632] "."""
    return _MARK.sub("", line).strip()


def _rule_for(chain: Sequence[Raised]) -> _Rule | None:
    return next((rule for rule in _RULES if rule.fits(chain)), None)


def _from_output(output: str, exit_code: int) -> StageError:
    """The output alone never says that another attempt is in vain: anybody's text may stand in it."""
    exceptions = list(_EXCEPTION_LINE.finditer(output))
    lines = [found[0] for found in exceptions] or [line for line in output.splitlines() if line.strip()]
    what = f"torchrun exited with code {exit_code}: {lines[-1] if lines else 'no output':.700}"
    rule = _rule_for([Raised("", output[exceptions[0].start() :])] if exceptions else [])
    return StageError(rule.reason, f"{what} {rule.advice}") if rule else StageError("TrainingFailed", what)
