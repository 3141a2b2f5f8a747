"""Stages write below their scratch directory only, and use the CPUs their container may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qwensft_trainer.base import environment


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_every_cache_is_below_the_scratch_directory(tmp_path: Path) -> None:
    environment.prepare_environment(tmp_path)
    for name in ("HOME", "TMPDIR", "HF_HOME", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "MPLCONFIGDIR"):
        assert Path(os.environ[name]).is_relative_to(tmp_path)
    assert Path(os.environ["TMPDIR"]).is_dir()


def test_threads_are_shared_between_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ.pop("OMP_NUM_THREADS", None)
    monkeypatch.setattr(environment, "cpu_limit", lambda: 8)
    environment.training_environment(processes=3, accelerators=0)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_what_the_user_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "7")
    monkeypatch.setitem(os.environ, "PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    environment.training_environment(processes=1, accelerators=1)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:64"


@pytest.mark.parametrize(("text", "expected"), [("150000 100000", 1.5), ("max 100000", None), ("", None)])
def test_the_quota_of_cgroup_v2_is_read(tmp_path: Path, text: str, expected: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert environment._quota_v2(tmp_path / "cpu.max") == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", None)])
def test_the_quota_of_cgroup_v1_is_read(tmp_path: Path, quota: str, expected: float | None) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    assert environment._quota_v1(tmp_path) == expected


def test_limits_are_never_below_one_and_memory_never_above_the_machines() -> None:
    assert environment.cpu_limit() >= 1
    assert 0 < environment.memory_limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_hub_client_that_is_imported_already_goes_offline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = ModuleType("huggingface_hub.constants")
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    environment.forbid_hub_access()
    assert constants.HF_HUB_OFFLINE is True
