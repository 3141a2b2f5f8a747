"""What the libraries are kept from; each needs the library itself, as the trainer image has it."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base import upstream

torch = pytest.importorskip("torch")


class Code:
    """Makes a directory when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with torch.serialization.safe_globals([]):
        yield


@pytest.mark.parametrize("asked", [{"weights_only": False}, {}, {"pickle_module": pickle}])
def test_no_checkpoint_runs_code(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as spec.worker.env may say
    torch.save({"state": Code(tmp_path / "made")}, tmp_path / "state.pt")
    upstream.load_no_code()
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load(tmp_path / "state.pt", **asked)
    assert not (tmp_path / "made").exists()


def test_numbers_are_loaded_as_before(tmp_path: Path) -> None:
    torch.save({"step": 7, "weights": torch.ones(3)}, tmp_path / "state.pt")
    upstream.load_no_code()
    assert torch.load(tmp_path / "state.pt", weights_only=False)["weights"].sum() == 3


def test_what_deepspeed_keeps_in_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    upstream.load_no_code(deepspeed=True)
    scaling, zero, fragments = map(
        importlib.import_module,
        ("deepspeed.runtime.fp16.loss_scaler", "deepspeed.runtime.zero.config", "deepspeed.utils.tensor_fragment"),
    )
    kept = {
        "loss_scaler": scaling.DynamicLossScaler(2**16, 2.0, 1000, 1.0, 1, False, torch.float16),
        "zero_stage": zero.ZeroStageEnum(3),
        "fragment": fragments.fragment_address(numel=2, start=1),
    }
    torch.save(kept, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=False)
    assert (loaded["loss_scaler"].cur_scale, loaded["zero_stage"], loaded["fragment"].numel) == (2**16, 3, 2)
