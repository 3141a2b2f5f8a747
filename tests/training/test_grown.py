"""An adapter with embeddings of its own, grown by a token, is trained on as any other: DoRA, and with ZeRO-3, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import load_file  # type: ignore[import-not-found, unused-ignore]

from .gang import ZERO, Training

GROWN: dict[str, Any] = {"add_tokens": "<new>", "resize_vocab": True, "additional_target": "embed_tokens,lm_head"}
EMBEDDINGS = "base_model.model.model.embed_tokens.weight"


@pytest.mark.parametrize("way", ["lora", "dora", "zero-3"])
def test_trained_embeddings_are_gone_on_with(model: Path, tmp_path: Path, way: str) -> None:
    """Nothing is learnt at a rate of 0: what comes out is what went in, and so are the answers."""
    arguments = dict(GROWN)
    if way == "dora":
        arguments |= {"use_dora": True, "use_rslora": True}
    if way == "zero-3":
        pytest.importorskip("deepspeed")
        path = tmp_path / "deepspeed.json"
        path.write_text(json.dumps(ZERO))
        arguments |= {"deepspeed": str(path)}
    first = Training(tmp_path / "first", arguments=arguments, samples=2).prepared(model)
    first.train(1)
    still = Training(
        tmp_path / "still",
        uid="uid-2",
        trained_on=first.result,
        arguments=arguments | {"learning_rate": 0.0},
        samples=2,
    ).prepared(model)
    still.train(1)
    went_in, came_out = (load_file(run.result / "adapter_model.safetensors") for run in (first, still))
    assert EMBEDDINGS in went_in
    assert went_in.keys() == came_out.keys()
    assert all(torch.equal(tensor, came_out[name]) for name, tensor in went_in.items())
    told = json.loads((still.directory / "samples.json").read_text())
    assert told.get("why") is None
    before = json.loads((first.directory / "samples.json").read_text())
    for ours, theirs in zip(told["samples"], before["samples"], strict=True):
        assert ours["before"] == ours["after"] == theirs["after"]
