"""The plan of a merge: every tensor of the base under its name, and what training has changed in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwensft_trainer.merging.adapter import Changes, UnknownError
from qwensft_trainer.merging.plan import LowRank, Plan
from qwensft_trainer.merging.planning import assemble, index_of
from qwensft_trainer.merging.weights import File, Tensor

from .safetensors import save

EMBEDDINGS, HEAD, QUERY = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.q_proj.weight"
BASE = {EMBEDDINGS: np.ones((8, 4)), QUERY: np.ones((6, 4)), "mtp.fc.weight": np.ones((3, 3))}


def tensor(path: Path, shape: tuple[int, ...], dtype: str = "F32") -> Tensor:
    return Tensor(path=path, name="trained", dtype=dtype, shape=shape, start=0, size=0)


def low_rank(rows: int = 6, columns: int = 4) -> LowRank:
    here = Path("adapter")
    return LowRank(a=tensor(here, (2, columns)), b=tensor(here, (rows, 2)), scale=1.0)


def planned(directory: Path, tensors: Mapping[str, Any], changes: Changes, **options: Any) -> Plan:
    file = File.read(save(directory / "model.safetensors", tensors))
    return assemble([file], changes, lambda name: name, **options)


def test_what_training_leaves_is_copied_and_the_header_with_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE, {QUERY: low_rank()})
    (shard,) = plan.shards
    assert shard.like == tmp_path / "model.safetensors"
    assert shard.header == (tmp_path / "model.safetensors").read_bytes()[: len(shard.header)]
    assert {step.name: step.is_copy for step in shard.steps} == {
        EMBEDDINGS: True,
        QUERY: False,
        "mtp.fc.weight": True,
    }
    assert (plan.changed, plan.untied, plan.rows) == ((QUERY,), False, None)


def test_names_are_the_bases_whatever_transformers_calls_them(tmp_path: Path) -> None:
    file = File.read(save(tmp_path / "model.safetensors", {"visual.proj.weight": np.ones((6, 4))}))
    plan = assemble([file], {"model.visual.proj.weight": low_rank()}, lambda name: f"model.{name}")
    assert plan.changed == ("visual.proj.weight",)


def test_another_dtype_is_for_floats_alone(tmp_path: Path) -> None:
    counter = ("I64", np.array([7]))
    plan = planned(tmp_path, BASE | {"counter": counter}, {}, dtype="BF16")
    (shard,) = plan.shards
    assert [step.dtype for step in shard.steps] == ["BF16", "BF16", "BF16", "I64"]
    assert shard.like is None


@pytest.mark.parametrize("trained", [EMBEDDINGS, HEAD])
def test_one_of_tied_embeddings_that_is_trained_unties_them(tmp_path: Path, trained: str) -> None:
    new = tensor(tmp_path / "adapter", (8, 4))
    plan = planned(tmp_path, BASE, {trained: new}, tied=True)
    steps = {step.name: step for step in plan.shards[0].steps}
    assert plan.untied
    assert plan.shards[0].like is None
    assert (steps[trained].source == new, steps[HEAD if trained == EMBEDDINGS else EMBEDDINGS].source != new) == (
        True,
        True,
    )
    assert trained in plan.changed
    assert steps[HEAD].shape == (8, 4)


def test_a_stored_head_of_tied_embeddings_follows_full_training(tmp_path: Path) -> None:
    new = tensor(tmp_path / "trained", (8, 4))
    stored = BASE | {HEAD: BASE[EMBEDDINGS]}
    plan = planned(tmp_path, stored, {EMBEDDINGS: new}, tied=True, stays_tied=True)
    steps = {step.name: step for step in plan.shards[0].steps}
    assert steps[HEAD].source == steps[EMBEDDINGS].source == new
    assert not plan.untied


def test_added_tokens_are_rows_of_the_embeddings(tmp_path: Path) -> None:
    new = tensor(tmp_path / "adapter", (10, 4))
    plan = planned(tmp_path, BASE | {HEAD: BASE[EMBEDDINGS]}, {EMBEDDINGS: new, HEAD: new})
    assert plan.rows == 10
    assert plan.size == (10 * 4 * 2 + 6 * 4 + 9) * 4


@pytest.mark.parametrize(
    ("changes", "options", "unknown"),
    [
        ({"model.layers.9.q_proj.weight": low_rank()}, {}, "model.layers.9.q_proj.weight, which is no tensor"),
        ({QUERY: low_rank(rows=5)}, {}, "for another shape"),
        ({QUERY: tensor(Path("t"), (6, 5))}, {}, "of shape"),
        ({HEAD: low_rank(rows=8)}, {"tied": True}, "output embeddings that are the input's"),
        ({QUERY: tensor(Path("t"), (6, 4), "I64")}, {}, "a change of model.layers.0.q_proj.weight, which is F32"),
    ],
)
def test_what_is_not_known_is_told(tmp_path: Path, changes: Changes, options: dict[str, Any], unknown: str) -> None:
    with pytest.raises(UnknownError, match=unknown):
        planned(tmp_path, BASE, changes, **options)


def test_shards_are_as_large_as_asked_and_indexed(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE, {}, shard_bytes=150)
    assert {shard.name: [step.name for step in shard.steps] for shard in plan.shards} == {
        "model-00001-of-00002.safetensors": [EMBEDDINGS],
        "model-00002-of-00002.safetensors": [QUERY, "mtp.fc.weight"],
    }
    index = index_of(plan, {"metadata": {"total_size": 1, "by": "someone"}})
    assert index is not None
    assert index["metadata"] == {"total_size": plan.size, "by": "someone"}
    assert index["weight_map"][QUERY] == "model-00002-of-00002.safetensors"
    whole = planned(tmp_path, BASE, {}, shard_bytes=10**9)
    assert [shard.name for shard in whole.shards] == ["model.safetensors"]
    assert index_of(whole, None) is None
