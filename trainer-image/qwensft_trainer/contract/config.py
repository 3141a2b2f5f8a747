"""What a stage is told: the files the operator mounts at /etc/qwensft, as typed objects.

run.yaml is checked here: what is missing or malformed is refused, and so is a version that this image does not know.
What a newer operator says beside is ignored, with a line in the log. train.yaml and export.yaml hold LLaMA-Factory's
own arguments and pass through as plain mappings; arguments.py completes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic.alias_generators import to_camel

from qwensft_trainer import __version__
from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import invalid_config

HubName = Literal["huggingFace", "modelScope"]

RUN_VERSION = 4  # of run.yaml: the highest that this image reads


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Owner(_Section):
    uid: str
    namespace: str
    name: str

    def about(self, attempt: int) -> dict[str, str]:
        """What figures of an attempt are told to be about."""
        return {"run_namespace": self.namespace, "run": self.name, "attempt": str(attempt)}


class Download(_Section):
    """A model repository on a hub; `endpoint` is the address of a mirror or a private hub."""

    hub: HubName
    repo: str
    revision: str | None = None
    endpoint: str | None = None


class MergedBy(_Section):
    """The run that has made a model: `digest` is that of the model when this run began."""

    name: str
    uid: str
    digest: str


class Adapter(_Section):
    """The adapter of another run, which is trained on: `digest` is what it had when this run began."""

    name: str
    uid: str
    digest: str
    path: Path


class Model(_Section):
    """`template` is None until prepare has read config.json; `cache` is a directory that jobs share.

    With `merged_by`, `path` is the merged model of another run, and has to be the very one. `adapter` is trained on.
    """

    name: str
    path: Path
    template: str | None = None
    download: Download | None = None
    cache: Path | None = None
    merged_by: MergedBy | None = None
    adapter: Adapter | None = None


class DatasetDownload(_Section):
    """Rows that are fetched: a dataset repository on a hub, or one file behind a URL (http, https, s3, gs).

    `credentials` is a directory with one file per key of a Secret.
    """

    hub: Literal["huggingFace", "modelScope", "url"]
    repo: str | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    path: str | None = None
    url: str | None = None
    sha256: str | None = None
    endpoint: str | None = None
    credentials: Path | None = None


class Dataset(_Section):
    """One dataset: `columns` and `tags` use LLaMA-Factory's names (prompt, query, ...; role_tag, content_tag, ...).

    Either `path` names a mounted file, or `download` tells where the rows come from.
    """

    name: str
    format: Literal["alpaca", "sharegpt", "openai"]
    path: Path | None = None
    download: DatasetDownload | None = None
    columns: dict[str, str | None] = {}
    tags: dict[str, str | None] = {}
    sample_count: int | None = None
    weight: float | None = None
    control_tokens: Literal["Warn", "Refuse"] = "Warn"
    ignore: list[str] = []


class EarlyStopping(_Section):
    """After `patience` evaluations without a loss lower by more than `min_delta`, the training ends."""

    patience: int
    min_delta: float = 0.0


class Evaluation(_Section):
    """What the training is evaluated on: a fraction of its data, or datasets of its own; and what follows of it."""

    fraction: float | None = None
    datasets: list[Dataset] = []
    keep_best: bool = False
    early_stopping: EarlyStopping | None = None


class Mixing(_Section):
    """How several training datasets become one."""

    strategy: Literal["concat", "interleave_under", "interleave_over", "interleave_once"] = "concat"


class Quantization(_Section):
    """The base's number format while an adapter is trained on it."""

    bits: int
    method: Literal["bnb", "hqq", "eetq"]


class Tuning(_Section):
    """`method` is LLaMA-Factory's finetuning_type: QLoRA is lora with a quantization, DoRA is lora with `dora`."""

    method: Literal["full", "freeze", "lora"]
    quantization: Quantization | None = None
    dora: bool = False
    pissa: bool = False


class DeepSpeed(_Section):
    """`stage` is None for a user's own configuration, which only prepare can look into.

    `ranks`, the processes of all nodes, is read by nothing but the configuration digest.
    """

    stage: int | None = None
    config: Path | None = None
    ranks: int | None = None


class Accelerator(_Section):
    count: int = 0


class TensorBoard(_Section):
    """Event files in the run's directory."""


class MLflow(_Section):
    """A tracking server; `credentials` is a directory with one file per key of a Secret."""

    endpoint: str
    experiment: str
    credentials: Path | None = None


class WeightsAndBiases(_Section):
    """`endpoint` is the address of a server of one's own; `credentials` is a directory with the key in a file."""

    project: str
    entity: str | None = None
    endpoint: str | None = None
    mode: Literal["online", "offline"] = "online"
    credentials: Path | None = None


TRACKER_DIRECTORIES = ("tensorboard", "wandb")
"""In a run's directory, named like the tracker that keeps its files there."""


class Trackers(_Section):
    """Where the training is reported to, and what its run is called there. Nothing of it changes what is learnt."""

    run_name: str
    group: str | None = None
    tags: dict[str, str] = {}
    tensorboard: TensorBoard | None = None
    mlflow: MLflow | None = None
    wandb: WeightsAndBiases | None = None

    @property
    def directories(self) -> tuple[str, ...]:
        """Names of those that keep files in the run's directory, each in one named like it."""
        return tuple(name for name in TRACKER_DIRECTORIES if getattr(self, name) is not None)


class Prepare(_Section):
    """`preview` says where the first rows may be shown: in a file of the run alone, or in the log, too."""

    preview: Literal["File", "Log"] = "File"


class Samples(_Section):
    """For how many rows the report shows what the model answers before and after the training."""

    count: int = 0


class Merge(_Section):
    """`shard_size` is the largest size of a weight file in GB, None for the base's own files."""

    directory: Path
    engine: Literal["streaming", "llamafactory"] = "streaming"
    shard_size: int | None = None
    verify: Literal["full", "tensors"] = "full"
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"


class Run(_Section):
    """run.yaml: whose run this is, where it lives and what it reads.

    A new field must be optional, and one that an older image may leave unread; any other raises `version`
    (docs/adr/0074).

    `merge_planned` tells prepare that a merge will follow; `merge` itself is told to the merge stage only, because it
    may change until then.
    """

    version: int = 1  # files from before there was a number are of version 1
    operator_version: str | None = None
    owner: Owner
    run_directory: Path
    on_existing: Literal["Fail", "Resume", "Overwrite"] = "Fail"
    model: Model
    datasets: list[Dataset] = []
    evaluation: Evaluation | None = None
    mixing: Mixing = Mixing()
    tuning: Tuning
    deepspeed: DeepSpeed | None = None
    accelerator: Accelerator = Accelerator()
    trackers: Trackers | None = None
    prepare: Prepare = Prepare()
    samples: Samples = Samples()
    merge_planned: bool = False
    merge: Merge | None = None
    _document: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """run.yaml as it was read, with what this image does not know."""
        return self._document

    @property
    def data_directory(self) -> Path:
        """Normalised datasets, dataset_info.json and the tokenised data."""
        return self.run_directory / "data"

    @property
    def tokenized_directory(self) -> Path:
        """What LLaMA-Factory calls tokenized_path."""
        return self.data_directory / "tokenized"

    @property
    def adapter_directory(self) -> Path:
        """Where the adapter is that is trained on: a copy, named in LLaMA-Factory's adapter_name_or_path."""
        return self.data_directory / "adapter"

    @property
    def tracker_directories(self) -> tuple[str, ...]:
        """Names in the run's directory that its trackers make; none without trackers."""
        return self.trackers.directories if self.trackers else ()

    @property
    def prepare_result(self) -> Path:
        """Written last by a preparation that succeeded."""
        return self.run_directory / "prepare.json"

    @property
    def train_result(self) -> Path:
        """Written last by a training that did all its steps."""
        return self.run_directory / "train.json"

    @property
    def merge_result(self) -> Path:
        """Written last by a merge whose result was verified."""
        return self.run_directory / "merge.json"

    def attempt_directory(self, attempt: int) -> Path:
        """LLaMA-Factory's output_dir: one per attempt, so that a broken attempt spoils nothing."""
        return self.run_directory / "train" / str(attempt)


def load_run(directory: Path) -> Run:
    """Read run.yaml. Raises PermanentError InvalidConfig that names the offending key or the version."""
    path = directory / "run.yaml"
    values = load_arguments(path)
    _require_known_version(values)
    try:
        run = Run.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise invalid_config(f"{path} is not a valid run.yaml: {problems}") from error
    run._document = values
    for key, _ in unread(values, run.model_dump(mode="json", by_alias=True)):
        log(f"run.yaml says {key}, which this image ({__version__}) does not know and goes on without")
    return run


def unread(document: Any, read: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What a document says and its reading lacks: each key with its path (datasets.0.name), and its value.

    Keys without a value (null) say nothing.
    """
    if isinstance(document, dict) and isinstance(read, dict):
        for key, value in document.items():
            if key in read:
                yield from unread(value, read[key], f"{place}{key}.")
            elif value is not None:
                yield f"{place}{key}", value
    elif isinstance(document, list) and isinstance(read, list):
        for number, (value, counterpart) in enumerate(zip(document, read, strict=True)):
            yield from unread(value, counterpart, f"{place}{number}.")


def _require_known_version(values: dict[str, Any]) -> None:
    version = values.get("version", 1)
    if type(version) is int and 1 <= version <= RUN_VERSION:
        return
    raise invalid_config(
        f"run.yaml has version {version}, written by version {values.get('operatorVersion', '(unknown)')} of the "
        f"operator; this image, version {__version__} of the trainer, reads versions up to {RUN_VERSION}. Use an image "
        "of the operator's version: set trainerImage in the operator's Helm values or, where the job names an image "
        "itself, spec.worker.image in a new QwenSFTJob."
    )


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where 5e-6 is text; LLaMA-Factory's loader and people read a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_arguments(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises PermanentError InvalidConfig when the file is missing or no mapping."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except OSError as error:
        raise_unless_inputs(error)
        raise invalid_config(f"Cannot read {path}, part of the configuration: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise invalid_config(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise invalid_config(f"{path} must hold a YAML mapping, not {type(values).__name__}.")
    return values
