"""What a merge is to write: for each tensor of each file where its numbers come from, and what is added to them.

Made in planning.py, carried out in streaming.py; it names files and bytes and holds no numbers.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from qwensft_trainer.merging import weights
from qwensft_trainer.merging.weights import Tensor


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class LowRank(_Part):
    """What an adapter adds to a weight W [out, in]: `scale` · B · A, with A [r, in] and B [out, r].

    With a `magnitude` [out] (DoRA) the sum's rows are then given that length: m / ‖W + s·B·A‖ · (W + s·B·A).
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None


class Step(_Part):
    """One tensor of the result: the `source`'s numbers as `dtype`, after `change`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Tensor
    change: LowRank | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the bytes stay as they are."""
        return self.change is None and self.source.dtype == self.dtype

    @property
    def size(self) -> int:
        """Bytes of the tensor in the result."""
        return weights.size_of(self.dtype, self.shape)


class Shard(_Part):
    """One file of the result. `like` is a file whose header it takes as it is."""

    name: str
    steps: tuple[Step, ...]
    metadata: dict[str, str]
    like: Path | None = None

    @property
    def header(self) -> bytes:
        """What the file begins with."""
        if self.like is not None:
            return weights.header_in(self.like)
        return weights.header_of(((step.name, step.dtype, step.shape) for step in self.steps), self.metadata)


class Plan(_Part):
    """All files of the result; `untied` and `rows` say what config.json has to tell.

    `untied`: the output embeddings are no longer the input embeddings. `rows`: of the embeddings, where the base has
    another number. `changed`: names of the tensors that training has touched.
    """

    shards: tuple[Shard, ...]
    untied: bool = False
    rows: int | None = None
    changed: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(step.size for shard in self.shards for step in shard.steps)
