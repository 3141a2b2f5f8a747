"""`spec.merge`: how adapter and base become one model directory. Editable at any time; an edit merges again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import ApiModel, Rule, argument
from .common import FilePath
from .constants import DEFAULT_MERGE_DIRECTORY
from .resources import ResourceRequirements

_TAKEN = (
    *("data", "model", "train"),
    *("merge.json", "model.json", "prepare.json", "preview.json", "preview.txt", "report.html"),
    *("samples.json", "train.json"),
    *(".merged.old", ".merged.partial", ".model.partial", ".tokenize"),
)
_OF_RUNS = ".qwensft-"  # how other names of theirs begin


def _is_free(path: str) -> bool:
    return path.split("/", maxsplit=1)[0] not in _TAKEN and not path.startswith(_OF_RUNS)


class Merge(ApiModel):
    """The merge stage: one pod that writes a plain Hugging Face model and verifies it."""

    rules = (
        Rule(
            cel=f"!has(self.path) || (!(self.path.split('/')[0] in {list(_TAKEN)})"
            f" && !self.path.startsWith('{_OF_RUNS}'))",
            message="a name that the run itself uses, such as data, model, train, report.html or train.json: choose "
            "another merge.path, for example merged",
            check=lambda merge: merge.path is None or _is_free(merge.path),
            field=".path",
        ),
        Rule(
            cel="self.?device.orDefault() == 'cpu' || self.?engine.orDefault() == 'llamafactory'",
            message="device is where engine llamafactory computes, and streaming needs no accelerator: remove device, "
            "or set engine: llamafactory",
            check=lambda merge: merge.device == "cpu" or merge.engine == "llamafactory",
            field=".device",
        ),
    )

    enabled: bool = Field(True, description="Merge after the training. May be turned on later.")
    engine: Literal["streaming", "llamafactory"] = Field(
        "streaming",
        description="What computes the merge. streaming replaces the trained tensors in copies of the base's files, in "
        "less than 1 GiB of memory for any model, and leaves to LLaMA-Factory what it does not know. llamafactory is "
        "LLaMA-Factory's export, which holds the whole model in memory. The files are laid out alike.",
    )
    shard_size_gb: int | None = Field(
        None,
        ge=1,
        le=1000,
        validation_alias="shardSizeGB",
        serialization_alias="shardSizeGB",
        description="Largest size of one weight file, in GB (10^9 bytes). Default: the files are those of the base.",
        json_schema_extra=argument("export_size"),
    )
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="Number format of the merged weights; auto keeps the base model's.",
        json_schema_extra=argument("infer_dtype"),
    )
    device: Literal["cpu", "auto"] = Field(
        "cpu",
        description="Where engine llamafactory computes: cpu needs memory of 1.35 times the bf16 model; auto asks for "
        "one accelerator. Engine streaming needs none.",
        json_schema_extra=argument("export_device"),
    )
    path: FilePath | None = Field(
        None,
        description="Directory of the merged model, below the directory of the run. Default: merged.",
        json_schema_extra=argument("export_dir"),
    )
    verify: Literal["full", "tensors"] = Field(
        "full",
        description="full: every tensor is what peft computes of base and adapter, or the base's bit by bit, and the "
        "model's logits, computed layer by layer, are those of base plus adapter. tensors: the tensors only.",
    )
    resources: ResourceRequirements | None = Field(
        None,
        description="CPU and memory of the merge pod. Default: a request of one CPU and of what the streaming engine "
        "and its verification need (docs/memory.md); with engine llamafactory the worker's resources, without the "
        "accelerator.",
    )
    retries: int = Field(
        2, ge=0, le=20, description="Further attempts after a failure that may pass. They never train again."
    )

    @property
    def effective_path(self) -> str:
        """The directory given, else `merged`; relative to the directory of the run."""
        return self.path or DEFAULT_MERGE_DIRECTORY
