"""The files of a merge are the base's with the trained tensors replaced, whatever interrupts their writing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwensft_trainer.contract.child import call
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.merging import adapter, streaming
from qwensft_trainer.merging.numbers import from_float32
from qwensft_trainer.merging.plan import Plan
from qwensft_trainer.merging.planning import assemble
from qwensft_trainer.merging.weights import File

from . import killed
from .safetensors import bf16, load, save

ROWS, COLUMNS, RANK = 300, 40, 3
MODULE = "model.layers.0.q_proj"
random = np.random.default_rng(0)
BASE = {
    "model.embed_tokens.weight": ("BF16", bf16(random.normal(size=(50, COLUMNS)))),
    f"{MODULE}.weight": ("BF16", bf16(random.normal(size=(ROWS, COLUMNS)))),
    "mtp.fc.weight": ("F32", random.normal(size=(7, 7))),
}
A, B = random.normal(size=(RANK, COLUMNS)), random.normal(size=(ROWS, RANK))
MAGNITUDE = random.normal(size=ROWS) + 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_NUMBERS", 16 * COLUMNS)
    monkeypatch.setattr(streaming, "_COPIED", 64)


def plan(directory: Path, *, dora: bool = False, extra: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    tensors = {f"base_model.model.{MODULE}.lora_A.weight": A, f"base_model.model.{MODULE}.lora_B.weight": B}
    if dora:
        tensors[f"base_model.model.{MODULE}.lora_magnitude_vector"] = MAGNITUDE
    save(directory / "adapter" / adapter.WEIGHTS, {**tensors, **(extra or {})})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "use_dora": dora}
    (directory / "adapter" / adapter.CONFIG).write_text(json.dumps(config))
    names = list(BASE)
    files = [
        File.read(save(directory / "base" / f"model-0000{number}-of-00002.safetensors", {n: BASE[n] for n in part}))
        for number, part in enumerate((names[:2], names[2:]), start=1)
    ]
    return assemble(files, adapter.changes(directory / "adapter"), lambda name: name, **options)


def merged(directory: Path, what: Plan, **options: Any) -> streaming.Written:
    (directory / "merged").mkdir(exist_ok=True)
    return streaming.write(what, directory / "merged", **{"digest": "1"} | options)


def expected(*, dora: bool = False) -> Any:
    """In float64: W + 2BA, and for DoRA its rows with the magnitudes as lengths."""
    before = (BASE[f"{MODULE}.weight"][1].astype("<u4") << 16).view("<f4").astype(float)
    total = before + 2 * (B.astype("<f4").astype(float) @ A.astype("<f4").astype(float))
    if dora:
        total *= (MAGNITUDE / np.linalg.norm(total, axis=1))[:, None]
    return total


@pytest.mark.parametrize("dora", [False, True])
def test_the_trained_tensor_is_rounded_once_and_all_else_is_the_base(tmp_path: Path, dora: bool) -> None:
    written = merged(tmp_path, plan(tmp_path, dora=dora))
    first, second = sorted(written)
    assert (tmp_path / "merged" / second).read_bytes() == (tmp_path / "base" / second).read_bytes()
    found = load(tmp_path / "merged" / first)
    assert np.array_equal(
        found["model.embed_tokens.weight"], load(tmp_path / "base" / first)["model.embed_tokens.weight"]
    )
    wanted = expected(dora=dora)
    # half of the last of eight bits, and the error of float32
    assert np.all(np.abs(found[f"{MODULE}.weight"] - wanted) <= np.abs(wanted) * (2**-8) * 1.0001)
    assert not np.array_equal(found[f"{MODULE}.weight"], load(tmp_path / "base" / first)[f"{MODULE}.weight"])


def test_what_was_written_is_told_with_its_digest_and_size(tmp_path: Path) -> None:
    told: list[int] = []
    what = plan(tmp_path)
    for name, entry in merged(tmp_path, what, tell=told.append).items():
        raw = (tmp_path / "merged" / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(raw).hexdigest(), "sizeBytes": len(raw)}
    assert told == sorted(told)
    assert told[-1] == what.size


def test_the_number_of_threads_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for threads in (1, 5):
        monkeypatch.setattr(streaming, "cpu_limit", lambda threads=threads: threads)
        digests.append(
            {name: entry["sha256"] for name, entry in merged(tmp_path, plan(tmp_path), digest=str(threads)).items()}
        )
    assert digests[0] == digests[1]


def test_other_types_and_sizes_of_files(tmp_path: Path) -> None:
    written = merged(tmp_path, plan(tmp_path, dtype="F32", shard_bytes=10**6))
    found = load(tmp_path / "merged" / "model.safetensors")
    assert list(written) == ["model.safetensors"]
    assert {values.dtype for values in found.values()} == {np.dtype("<f4")}
    assert np.allclose(found[f"{MODULE}.weight"], expected(), rtol=1e-5, atol=1e-5)


class Killed(BaseException):
    pass


def test_files_that_were_complete_outlive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    what = plan(tmp_path)
    whole = merged(tmp_path / "once", what)
    first = what.shards[0]

    def kill(done: int) -> None:
        if done > sum(step.size for step in first.steps) + 100:
            raise Killed

    with pytest.raises(Killed):
        merged(tmp_path, what, tell=kill)
    kept = tmp_path / "merged" / first.name
    before = kept.stat().st_mtime_ns
    assert merged(tmp_path, what) == whole
    assert kept.stat().st_mtime_ns == before
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert merged(tmp_path, what) == whole
    assert merged(tmp_path, plan(tmp_path, dora=True), digest="2") != whole


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    (tmp_path / "merged").mkdir()
    what = plan(tmp_path)
    whole = merged(tmp_path / "once", what)
    first, second = what.shards
    with pytest.raises(StageError) as caught:
        call(killed.write, what, tmp_path / "merged", after=sum(step.size for step in first.steps) + 64)
    assert caught.value.reason == "OutOfMemory"
    rest = {path.name for path in (tmp_path / "merged").iterdir()}
    assert rest == {first.name, f".{second.name}.partial", streaming.JOURNAL}
    kept = (tmp_path / "merged" / first.name).stat().st_mtime_ns
    assert merged(tmp_path, what) == whole
    assert (tmp_path / "merged" / first.name).stat().st_mtime_ns == kept
    for name in whole:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "once" / "merged" / name).read_bytes()


def test_what_cannot_fit_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = plan(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1000))
    with pytest.raises(StageError, match=r"1000 bytes free, but the merged model needs 27\.5 KiB") as told:
        merged(tmp_path, what)
    assert told.value.reason == "DiskFull"
    assert list((tmp_path / "merged").iterdir()) == []


def test_files_that_the_plan_does_not_have_are_gone(tmp_path: Path) -> None:
    merged(tmp_path, plan(tmp_path, shard_bytes=1000))
    written = merged(tmp_path, plan(tmp_path))
    assert {path.name for path in (tmp_path / "merged").glob("*.safetensors")} == set(written)


def test_numbers_that_are_none_are_never_written(tmp_path: Path) -> None:
    head = ("F32", np.full((50, COLUMNS), np.nan))
    what = plan(tmp_path, extra={"base_model.model.model.embed_tokens.weight": head})
    with pytest.raises(PermanentError, match=r"model\.embed_tokens\.weight cannot be written: it holds NaN"):
        merged(tmp_path, what)


def test_tensors_of_any_shape_are_converted_in_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = random.normal(size=(3, 50, 40))
    file = File.read(save(tmp_path / "base" / "model.safetensors", {"experts": ("BF16", bf16(experts))}))
    largest: list[int] = []

    def written(values: Any, dtype: str) -> memoryview:
        largest.append(values.size)
        return from_float32(values, dtype)

    monkeypatch.setattr(streaming, "from_float32", written)
    merged(tmp_path, assemble([file], {}, lambda name: name, dtype="F32"))
    assert max(largest) <= 16 * COLUMNS
    assert np.array_equal(load(tmp_path / "merged" / "model.safetensors")["experts"], load(file.path)["experts"])


def test_directories_that_others_have_left_go(tmp_path: Path) -> None:
    (tmp_path / "merged" / "additional_chat_templates").mkdir(parents=True)
    (tmp_path / "merged" / ".nfs000001").write_text("held open")
    merged(tmp_path, plan(tmp_path))
    assert not (tmp_path / "merged" / "additional_chat_templates").exists()
    assert (tmp_path / "merged" / ".nfs000001").exists()
