"""Which errors end a run for good, and which are tried again: by type and origin, with the wording of the libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE

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
from .judging import cause, cause_of, name_of

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
