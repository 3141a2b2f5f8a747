"""Error files as torchelastic's @record writes them, with the frames that the pinned libraries leave in a traceback."""

from __future__ import annotations

import json
from pathlib import Path

Frame = tuple[str, str]

LIBRARIES = "/opt/qwensft/lib/python3.11/site-packages"
PYTHON = "/usr/local/lib/python3.11"

WORKER: tuple[Frame, ...] = (
    ("<frozen runpy>", "_run_module_as_main"),
    (f"{LIBRARIES}/torch/distributed/elastic/multiprocessing/errors/__init__.py", "wrapper"),
    (f"{LIBRARIES}/qwensft_trainer/worker.py", "main"),
    (f"{LIBRARIES}/llamafactory/train/tuner.py", "run_exp"),
    (f"{LIBRARIES}/llamafactory/train/tuner.py", "_training_function"),
)
PARSER: tuple[Frame, ...] = (
    *WORKER,
    (f"{LIBRARIES}/llamafactory/hparams/parser.py", "get_train_args"),
)
ARGUMENTS: tuple[Frame, ...] = (
    *PARSER,
    (f"{LIBRARIES}/llamafactory/hparams/parser.py", "_parse_train_args"),
    (f"{LIBRARIES}/llamafactory/hparams/parser.py", "_parse_args"),
    (f"{LIBRARIES}/transformers/hf_argparser.py", "parse_dict"),
)
TRAINING_ARGUMENTS: tuple[Frame, ...] = (
    *ARGUMENTS,
    ("<string>", "__init__"),
    (f"{LIBRARIES}/llamafactory/hparams/training_args.py", "__post_init__"),
    (f"{LIBRARIES}/transformers/training_args.py", "__post_init__"),
)
DEVICES: tuple[Frame, ...] = (
    *TRAINING_ARGUMENTS,
    (f"{LIBRARIES}/transformers/training_args.py", "device"),
    (f"{PYTHON}/functools.py", "__get__"),
    (f"{LIBRARIES}/transformers/training_args.py", "_setup_devices"),
    (f"{LIBRARIES}/accelerate/state.py", "__init__"),
)
PROCESS_GROUP: tuple[Frame, ...] = (
    *DEVICES,
    (f"{LIBRARIES}/torch/distributed/c10d_logger.py", "wrapper"),
    (f"{LIBRARIES}/torch/distributed/distributed_c10d.py", "init_process_group"),
)
SET_DEVICE: tuple[Frame, ...] = (
    *DEVICES,
    (f"{LIBRARIES}/accelerate/state.py", "set_device"),
    (f"{LIBRARIES}/torch/cuda/__init__.py", "set_device"),
)
MODEL: tuple[Frame, ...] = (
    *WORKER,
    (f"{LIBRARIES}/llamafactory/train/sft/workflow.py", "run_sft"),
    (f"{LIBRARIES}/llamafactory/model/loader.py", "load_model"),
)
TRAINER: tuple[Frame, ...] = (
    *WORKER,
    (f"{LIBRARIES}/llamafactory/train/sft/workflow.py", "run_sft"),
    (f"{LIBRARIES}/transformers/trainer.py", "train"),
)


def traceback(exception: str, *frames: Frame) -> str:
    """As traceback.format_exc() prints it, marks of Python 3.11 included; `exception` is "module.Type: message"."""
    lines = "".join(
        f'  File "{file}", line {number}, in {function}\n    call(argument)\n    ^^^^^^^^^^^^^^\n'
        for number, (file, function) in enumerate(frames, start=1)
    )
    return f"Traceback (most recent call last):\n{lines}{exception}\n"


def raised_from(cause: str, then: str) -> str:
    """Two tracebacks as they are printed for `raise ... from`."""
    return f"{cause}\nThe above exception was the direct cause of the following exception:\n\n{then}"


def write(temporary: Path, callstack: str, *, local_rank: int = 0, time: int = 1764000000) -> None:
    """What ErrorHandler.record_exception leaves below torchrun's TMPDIR for a worker that ended so."""
    text = callstack.rpartition("^\n")[2] or callstack
    kind, separator, message = text.strip("\n").partition(": ")
    path = temporary / "torchelastic_wqt3" / "none_1n5g" / "attempt_0" / str(local_rank) / "error.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {"py_callstack": callstack, "timestamp": str(time)}
    name = kind.rpartition(".")[2] + separator + message
    path.write_text(json.dumps({"message": {"message": name, "extraInfo": extra}}))
