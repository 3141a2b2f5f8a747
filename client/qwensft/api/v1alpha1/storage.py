"""`spec.storage`: the volume of the run, and the directory on it that the run owns."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule, argument, exactly_one_of
from .common import FilePath, ObjectName
from .quantities import Bytes

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]
OnExisting = Literal["Fail", "Resume", "Overwrite"]
AccessModes = Annotated[
    list[AccessMode],
    Field(min_length=1, max_length=3),
    Rule(
        cel="!('ReadWriteOncePod' in self) || self.size() == 1",
        message="ReadWriteOncePod goes with no other access mode: leave it alone, or leave it out",
        check=lambda modes: "ReadWriteOncePod" not in modes or len(modes) == 1,
    ),
]


class ClaimTemplate(ApiModel):
    """A PersistentVolumeClaim that the operator makes, named <job>-workspace."""

    size: Bytes = Field(
        description="Size of the volume. It holds the downloaded model, the tokenised data, the checkpoints and the "
        "merged model: at least 4 times the size of the bf16 model for LoRA, 25 times for full tuning."
    )
    storage_class_name: ObjectName | None = Field(
        None, description="StorageClass. Default: the cluster's default class."
    )
    access_modes: AccessModes | None = Field(
        None, description="Access modes. Default: ReadWriteMany with more than one node, else ReadWriteOnce."
    )


class StorageVolume(ApiModel):
    """The volume: exactly one member."""

    rules = (exactly_one_of("claim_name", "claim_template", example="claimTemplate: {size: 200Gi}"),)

    claim_name: ObjectName | None = Field(
        None, description="An existing PersistentVolumeClaim, in the namespace of the job. Several jobs may share it."
    )
    claim_template: ClaimTemplate | None = Field(None, description="A claim that the operator makes for this job.")


_MEANT_OTHERWISE = r"[,\[\]{}*?]|::"


class Storage(ApiModel):
    """Where the run keeps its files."""

    rules = (
        Rule(
            cel=f"!has(self.path) || !self.path.matches(r'{_MEANT_OTHERWISE}')",
            message="path has one of , [ ] { } * ? or ::, which LLaMA-Factory and its libraries read as lists and "
            "patterns: use other characters",
            check=lambda storage: storage.path is None or re.search(_MEANT_OTHERWISE, storage.path) is None,
            field=".path",
        ),
    )

    volume: StorageVolume = Field(description="The volume: exactly one member.")
    path: FilePath | None = Field(
        None,
        description="Directory of the run, below the root of the volume. Default: the job's name, a '-' and the first "
        "8 characters of its UID.",
        json_schema_extra=argument("output_dir"),
    )
    retain: bool = Field(
        True,
        description="Keep a claim made from claimTemplate when the job is deleted. With false the model is deleted "
        "too.",
    )
    on_existing: OnExisting = Field(
        "Fail",
        description="What to do when the directory holds files of another job: Fail, Resume (go on from its "
        "checkpoints) or Overwrite (delete them; where no run has been, nothing is deleted and the job fails).",
        json_schema_extra=argument("overwrite_output_dir"),
    )
