"""`init`: a job for a model, rows and accelerators, as a file with comments. Pure: from choices to text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from qwensft.api.v1alpha1 import API_VERSION, KIND, InvalidJobError, QwenSFTJob, Training, parse_job
from qwensft.cli.checking import problems_of
from qwensft.cli.documents import Document
from qwensft.cli.estimating import estimated
from qwensft.cli.failures import CommandError
from qwensft.client.rows import ending_of
from qwensft.estimate.architectures import known

LARGEST_INSIDE: Final = 200 << 10
"""Bytes of rows that go into the file itself: kubectl apply notes all of an object in an annotation of 256 KiB."""
_COMMENTS_AT: Final = 60  # column
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_EPOCHS: Final = 3
_UNKNOWN_SIZE: Final = 100  # GiB of a volume for a model of unknown size
_VOLUMES: Final = {"full": 25, "freeze": 25}  # sizes of the bf16 model; docs/memory.md
_OF_ADAPTERS: Final = 4
_OF_A_STEP: Final = Training().per_device_train_batch_size * Training().gradient_accumulation_steps
"""Rows of each device in an optimiser step."""
_ONE_BY_ONE: Final = {"perDeviceTrainBatchSize": 1, "gradientAccumulationSteps": _OF_A_STEP}


@dataclass(frozen=True)
class Choices:
    """What a user decides. `rows_text` are the rows themselves, where they go into the file."""

    name: str
    model: str
    dataset: str
    file: str
    format: str
    rows: int | None = None
    rows_text: str | None = None
    gpu_memory: str | None = None
    gpus: int = 1
    nodes: int = 1
    method: str | None = None
    size: str | None = None

    @property
    def key(self) -> str:
        """What the rows are called in the cluster, where a name may have neither blanks nor umlauts."""
        return self.file if _KEY.fullmatch(self.file) else f"{self.dataset}{ending_of(self.file)}"


def name_of(stem: str) -> str:
    """Return a name for a run from that of a file, as the API takes it."""
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-0123456789")[:45].strip("-")
    return name or "first-run"


def compose(choices: Choices) -> str:
    """Return the file.

    Raises:
        CommandError: the API would refuse the job.
    """
    spec, why = _spec(choices)
    job = _job(choices, spec)
    head = [
        f"# Rows of {choices.file}, for {choices.model}.",
        "# Next: qwensft check FILE, then qwensft submit FILE --watch. All fields: kubectl explain qwensftjob.spec",
    ]
    parts = ["\n".join([*head, _dump(job, _comments(choices, why))])]
    if choices.rows_text is not None:
        rows = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _config_map(choices)},
            "data": {choices.key: choices.rows_text},
        }
        parts.append(_dump(rows, {}))
    return "---\n".join(parts)


def _spec(choices: Choices) -> tuple[Document, str]:
    """Return the first way to train that the API takes and that fits, and why it is that one."""
    ways = list(_ways(choices))
    refused: InvalidJobError | None = None
    first: Document | None = None
    for way in ways:
        spec = _written(choices, way)
        try:
            job = _parsed(choices, spec)
        except InvalidJobError as error:
            refused = refused or error
            continue
        first = first or spec
        fits = estimated(job.spec).fits
        if fits is not False:
            untold = "nobody has told the GPU's memory" if choices.gpus else "there is no GPU that it has to fit"
            known_fit = "fits by the estimate" if fits else untold
            return spec, known_fit if way is ways[0] or fits is None else "what costs less memory, so that it fits"
    if first is None and refused is not None:
        raise CommandError(problems_of(refused)[0]) from refused
    return first or {}, "does not fit by the estimate: see qwensft estimate"


def _ways(choices: Choices) -> Iterator[Document]:
    methods = [choices.method] if choices.method else ["lora", "qlora"]
    for method in methods:
        adapter: Document = {} if method in ("full", "freeze") else {"lora": {"rank": 16, "targets": ["all"]}}
        tuning = {"method": method} | adapter
        rate = 1.0e-4 if adapter else 1.0e-5
        training: Document = {"learningRate": rate}
        yield {"tuning": tuning, "training": training}
        if choices.gpus:
            yield {"tuning": tuning, "training": training | {"ligerKernel": True}}
            yield {"tuning": tuning, "training": training | {"ligerKernel": True} | _ONE_BY_ONE}


def _written(choices: Choices, way: Document) -> Document:
    training = {"epochs": _EPOCHS, **way["training"], "cutoffLen": 2048}
    if choices.rows is not None:
        steps = math.ceil(choices.rows / (_OF_A_STEP * max(1, choices.gpus) * choices.nodes)) * _EPOCHS
        training["warmupSteps"] = max(1, min(100, steps // 10))
    if choices.gpus == 0:
        training["precision"] = "fp32"
    inside = choices.rows_text is not None
    source: Document = (
        {"configMap": {"name": _config_map(choices), "key": choices.key}}
        if inside
        else {"volume": {"claimName": f"rows-{choices.name}", "path": choices.key}}
    )
    spec: Document = {
        "model": {"name": choices.model},
        "datasets": [{"name": choices.dataset, "format": choices.format, "source": source}],
        "tuning": way["tuning"],
        "training": training,
    }
    if choices.nodes > 1:
        spec["distribution"] = {"nodes": choices.nodes}
    memory = {"memory": choices.gpu_memory} if choices.gpu_memory and choices.gpus else {}
    spec["worker"] = {"accelerator": {"count": choices.gpus} | memory}
    size = choices.size or f"{_volume(choices.model, way['tuning']['method'])}Gi"
    spec["storage"] = {"volume": {"claimTemplate": {"size": size}}}
    return spec


def _volume(model: str, method: str) -> int:
    """GiB of the run's volume."""
    shape = known(model)
    if shape is None:
        return _UNKNOWN_SIZE
    return max(5, math.ceil(_VOLUMES.get(method, _OF_ADAPTERS) * 2 * shape.parameters / 2**30))


def _job(choices: Choices, spec: Document) -> Document:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": choices.name}, "spec": spec}


def _parsed(choices: Choices, spec: Document) -> QwenSFTJob:
    return parse_job(_job(choices, spec))


def _config_map(choices: Choices) -> str:
    return f"rows-{choices.name}"


def _comments(choices: Choices, why: str) -> dict[str, str]:
    """What is said beside a line, by how the line begins."""
    brought = f"submit --rows {choices.dataset}=FILE brings the file there"
    return {
        "  model:": "its repository on Hugging Face; model.source takes it from elsewhere",
        "    method:": why,
        "      rank:": "more trains more, and takes little memory",
        "    epochs:": "passes over the rows",
        "    cutoffLen:": "tokens; what is longer is cut",
        "    precision:": "bf16 is for GPUs",
        "    warmupSteps:": "a tenth of all steps",
        "    perDeviceTrainBatchSize:": "with gradientAccumulationSteps: as many rows a step, in less memory",
        "    ligerKernel:": "computes the loss piece by piece: less memory, same result",
        "        claimName:": brought if choices.rows_text is None else "",
        "    nodes:": "pods, each with as many accelerators",
        "      count:": "GPUs of each pod" if choices.gpus else "none: for a trial on CPUs",
        "      memory:": "of each, for the estimate",
        "        size:": "model, checkpoints and result; it stays when the job is deleted",
    }


def _dump(document: Document, comments: dict[str, str]) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    left = dict(comments)
    lines = []
    for line in text.removesuffix("\n").split("\n"):  # rows may hold U+2028, at which splitlines splits
        begin = next((begin for begin in left if line.startswith(begin)), None)
        said = left.pop(begin) if begin else ""
        lines.append(f"{line.ljust(_COMMENTS_AT - 2)}  # {said}" if said else line)
    return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, 0.0001 as a person writes it."""


def _text(dumper: Any, text: str) -> yaml.Node:
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
    return node


def _number(dumper: Any, number: float) -> yaml.Node:
    shown = f"{number:.1e}".replace("e-0", "e-") if 0 < number < 1e-3 else repr(number)
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:float", shown)
    return node


_Dumper.add_representer(str, _text)
_Dumper.add_representer(float, _number)
