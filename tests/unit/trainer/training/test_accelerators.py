"""What torch sees is compared with what the pod was promised, before any worker starts."""

from __future__ import annotations

import pytest

from qwensft_trainer.contract.errors import EXIT_RETRYABLE, StageError
from qwensft_trainer.training import accelerators

from ..conftest import Torch


def test_a_device_for_each_process_is_enough(torch: Torch) -> None:
    torch.sees(2)
    accelerators.require(2)


def test_fewer_than_processes_are_a_failure_that_may_be_tried_again(torch: Torch) -> None:
    torch.sees(1)
    with pytest.raises(StageError) as caught:
        accelerators.require(2)
    error = caught.value
    assert (error.reason, error.exit_code) == ("AcceleratorMissing", EXIT_RETRYABLE)
    assert "sees only 1 of the 2 accelerators" in error.message
    for place in ("nvidia-smi", "device plugin", "spec.worker.runtimeClassName", "spec.worker.image"):
        assert place in error.message


def test_a_driver_that_lists_devices_and_cannot_use_them_has_none_and_is_quoted(torch: Torch) -> None:
    torch.sees(8, available=False)
    with pytest.raises(StageError, match=r"sees none of the 2 .*The NVIDIA driver on your system is too old"):
        accelerators.require(2)


def test_a_torch_for_cpus_is_named_as_such(torch: Torch) -> None:
    torch.sees(0, available=False, built=False)
    with pytest.raises(StageError, match="made for CPUs only"):
        accelerators.require(1)


def test_a_driver_that_never_answers_is_no_accelerator(torch: Torch, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.contains("import time; time.sleep(60)")
    monkeypatch.setattr(accelerators, "ANSWER_SECONDS", 0.5)
    with pytest.raises(StageError, match=r"did not tell within 0\.5 s") as caught:
        accelerators.require(1)
    assert (caught.value.reason, caught.value.exit_code) == ("AcceleratorMissing", EXIT_RETRYABLE)


def test_a_torch_that_cannot_be_asked_is_left_to_the_workers(torch: Torch, capfd: pytest.CaptureFixture[str]) -> None:
    torch.contains("raise ImportError('libcudart.so.12')")
    accelerators.require(1)
    assert "could not be asked" in capfd.readouterr().out
