"""What an adapter's files say it adds; what only peft can do is left to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.merging import adapter
from qwensft_trainer.merging.adapter import UnknownError
from qwensft_trainer.merging.plan import LowRank
from qwensft_trainer.merging.weights import Tensor

from .. import broken
from .safetensors import save

QUERY = "base_model.model.model.layers.0.self_attn.q_proj"
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "rank_pattern": {}, "fan_in_fan_out": False}


def matrices(rank: int = 2) -> dict[str, Any]:
    return {f"{QUERY}.lora_A.weight": np.ones((rank, 3)), f"{QUERY}.lora_B.weight": np.ones((4, rank))}


def changes(directory: Path, tensors: dict[str, Any], **config: Any) -> adapter.Changes:
    save(directory / adapter.WEIGHTS, tensors)
    (directory / adapter.CONFIG).write_text(json.dumps(PLAIN | config))
    return adapter.changes(directory)


def test_matrices_and_tensors_of_their_own(tmp_path: Path) -> None:
    found = changes(tmp_path, matrices() | {"base_model.model.lm_head.weight": np.ones((5, 3))})
    assert found.keys() == {"model.layers.0.self_attn.q_proj.weight", "lm_head.weight"}
    change = found["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(change, LowRank)
    assert (change.a.shape, change.b.shape, change.scale, change.magnitude) == ((2, 3), (4, 2), 4.0, None)
    assert isinstance(found["lm_head.weight"], Tensor)


def test_embeddings_that_have_grown_are_saved_three_times(tmp_path: Path) -> None:
    name = "base_model.model.model.embed_tokens"
    kinds = ("weight", "modules_to_save.weight", "original_module.weight")
    found = changes(tmp_path, {f"{name}.{kind}": np.full((5, 3), number) for number, kind in enumerate(kinds)})
    change = found.pop("model.embed_tokens.weight")
    assert isinstance(change, Tensor)
    assert change.name == f"{name}.weight"
    assert not found


def test_rslora_divides_by_the_root(tmp_path: Path) -> None:
    change = changes(tmp_path, matrices(), use_rslora=True)["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(change, LowRank)
    assert change.scale == pytest.approx(8 / 2**0.5)


def test_dora_has_magnitudes(tmp_path: Path) -> None:
    tensors = matrices() | {f"{QUERY}.lora_magnitude_vector": np.ones(4)}
    change = changes(tmp_path, tensors, use_dora=True)["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(change, LowRank)
    assert change.magnitude is not None


@pytest.mark.parametrize(
    ("tensors", "config", "unknown"),
    [
        (matrices(), {"peft_type": "IA3"}, "an adapter of type IA3"),
        (matrices(), {"bias": "all"}, "an adapter with bias"),
        (matrices(), {"rank_pattern": {"q_proj": 4}}, "an adapter with rank_pattern"),
        (matrices(), {"target_parameters": ["mlp.experts.gate_up_proj"]}, "an adapter with target_parameters"),
        (matrices(), {"init_lora_weights": "pissa_niter_16"}, "init_lora_weights: pissa_niter_16 has changed"),
        (matrices(3), {}, "whose matrices of model.layers.0.self_attn.q_proj do not fit"),
        (matrices(), {"use_dora": True}, "of which model.layers.0.self_attn.q_proj is DoRA and others are not"),
        ({f"{QUERY}.lora_embedding_A": np.ones((2, 3))}, {}, "an adapter with 'embedding_A' of lora_"),
    ],
)
def test_what_is_not_known_is_told(
    tmp_path: Path, tensors: dict[str, Any], config: dict[str, Any], unknown: str
) -> None:
    with pytest.raises(UnknownError, match=unknown):
        changes(tmp_path, tensors, **config)


def refusal(directory: Path) -> str | None:
    """The message for an adapter that no training has written; None for one that can be merged, by whichever engine."""
    try:
        adapter.changes(directory)
    except UnknownError:
        return None
    except PermanentError as error:
        return f"{error.reason}: {error.message}"
    return None


@pytest.mark.parametrize("key", [*PLAIN, "use_dora", "use_rslora", "init_lora_weights", "target_modules"])
def test_a_setting_of_another_type_is_named_or_left_to_peft(tmp_path: Path, key: str) -> None:
    for value in broken.VALUES:
        save(tmp_path / adapter.WEIGHTS, matrices())
        (tmp_path / adapter.CONFIG).write_text(json.dumps(PLAIN | {key: value}))
        told = refusal(tmp_path)
        assert told is None or (told.startswith("MergeFailed: ") and f"{tmp_path / adapter.CONFIG} is not what" in told)
        if key in ("r", "lora_alpha") and not (type(value) in (int, float) and value >= 1):
            assert told is not None or (key == "lora_alpha" and type(value) in (int, float))


@pytest.mark.parametrize(("kind", "content"), [*broken.contents(), *broken.headers()])
def test_a_damaged_adapter_is_named(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / adapter.CONFIG).write_text(json.dumps(PLAIN))
    (tmp_path / adapter.WEIGHTS).write_bytes(content)
    told = refusal(tmp_path)
    if kind not in ("dtype 'many'", "dtype ''"):  # a type of a newer version: peft may know it
        assert told is not None
        assert f"{tmp_path / adapter.WEIGHTS} is not what a training writes" in told
        assert "Create the job again" in told
    save(tmp_path / adapter.WEIGHTS, matrices())
    (tmp_path / adapter.CONFIG).write_bytes(content)
    told = refusal(tmp_path)
    assert told is not None
    assert f"{tmp_path / adapter.CONFIG} is not what a training writes (it holds no JSON object)" in told


@pytest.mark.parametrize("name", [adapter.CONFIG, adapter.WEIGHTS])
def test_an_adapter_that_is_gone_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path / adapter.WEIGHTS, matrices())
    (tmp_path / adapter.CONFIG).write_text(json.dumps(PLAIN))
    (tmp_path / name).unlink()
    assert f"{tmp_path / name} is not what a training writes" in str(refusal(tmp_path))
