"""`init`'s questions: what was not given is asked for on a terminal, and else told as missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwensft.cli import gpus, halves
from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.starting import LARGEST_INSIDE, Choices, name_of

FORMATS = ("alpaca", "sharegpt", "openai")
_NO_GPU = "none"
_DATASET = "rows"  # as the client calls one whose rows it brings


@dataclass(frozen=True)
class Asked:
    """What was given on the command line; "" where nothing was."""

    rows: str
    model: str
    gpu: str
    gpus: int
    nodes: int
    name: str
    format: str
    method: str
    size: str


def choose(asked: Asked, ask: Callable[..., str] | None) -> Choices:
    """Return the choices. `ask` puts a question and gives its answer; None where nobody is there to answer.

    Raises:
        CommandError: something is missing, or the rows cannot be read.
    """
    path = Path(asked.rows or _answer(ask, "File with the rows", "--rows"))
    if path.is_dir():
        raise CommandError(f"{path} is a directory: --rows names the file with the rows")
    if not path.is_file():
        raise CommandError(f"there is no file {path}: --rows names the file with the rows")
    form, count = _format_of(path, asked.format)
    model = asked.model or _answer(ask, "Base model", "--model", default="Qwen/Qwen3-8B")
    gpu = asked.gpu or (ask("GPU (such as H100, 24Gi, none)", default="H100") if ask and asked.gpus else "")
    devices = 0 if gpu == _NO_GPU else asked.gpus
    return Choices(
        name=asked.name or name_of(path.name.split(".")[0]),
        model=model,
        dataset=_DATASET,
        file=path.name.encode(errors="replace").decode(),  # bytes that are no text are ?
        format=form,
        rows=count,
        rows_text=_text(path),
        gpu_memory=gpus.memory_of(gpu) if gpu and devices else None,
        gpus=devices,
        nodes=asked.nodes,
        method=asked.method or None,
        size=asked.size or None,
    )


def _answer(ask: Callable[..., str] | None, question: str, option: str, default: str | None = None) -> str:
    if ask is None:
        raise CommandError(f"{option} is missing, and there is no terminal to ask on")
    return ask(question, default=default)


def _format_of(path: Path, given: str) -> tuple[str, int | None]:
    """The format of the rows, and how many there are, where the trainer is here to say."""
    if given and given not in FORMATS:
        raise CommandError(f"--format {given}: it is one of {', '.join(FORMATS)}")
    if not halves.has_trainer():
        if not given:
            raise CommandError(
                "which format the rows have is told by the trainer's own code, which is not installed: pip install "
                f"'qwensft[offline]', or say --format {', '.join(FORMATS)}"
            )
        return given, None
    answer = halves.ask_trainer("recognise", {"file": str(path.resolve())})
    if "message" in answer:
        if given:
            return given, None
        raise CommandError(answer["message"], FAILED)
    return given or answer["format"], answer["rows"]


def _text(path: Path) -> str | None:
    """The rows as a text for a ConfigMap; None where they are too many, or no text."""
    if path.stat().st_size > LARGEST_INSIDE:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
