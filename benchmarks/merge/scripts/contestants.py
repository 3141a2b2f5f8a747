# ruff: noqa: PLC0415  # each imports its own libraries, in a process of its own
"""What is measured: the bare export, the two engines, each level of verification, and rates for the extrapolation.

Usage: contestants.py NAME DIRECTORY, which holds base, adapter and data. Results are left in DIRECTORY/NAME; whoever
writes a model has its files hashed and synced when it returns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

EXPORT = {
    "template": "qwen",
    "finetuning_type": "lora",
    "export_size": 2,
    "export_device": "cpu",
    "export_legacy_format": False,
}
_PLAN = "plan.json"


def export(directory: Path) -> None:
    """`llamafactory-cli export` by itself."""
    target = directory / "export"
    paths = {
        "model_name_or_path": str(directory / "base"),
        "adapter_name_or_path": str(directory / "adapter"),
        "export_dir": str(target),
    }
    arguments = directory / "export.yaml"
    arguments.write_text(json.dumps(EXPORT | paths | {"infer_dtype": "bfloat16"}))  # JSON is YAML
    subprocess.run(["llamafactory-cli", "export", str(arguments)], check=True)
    from qwensft_trainer.base import files

    files.manifest_of(target)
    _sync(target)


def streaming(directory: Path) -> None:
    """The streaming engine."""
    _engine(directory, "streaming")


def llamafactory(directory: Path) -> None:
    """The engine of the same name: an export, laid out as the base's files."""
    _engine(directory, "llamafactory")


def tensors(directory: Path) -> None:
    """Verification of the streaming engine's result, level tensors."""
    _verify(directory, "tensors")


def full(directory: Path) -> None:
    """The same, level full."""
    _verify(directory, "full")


def copied(directory: Path) -> None:
    """All tensors of the streaming engine's plan as if none were touched."""
    from qwensft_trainer.merging.plan import Plan, Shard, Step

    whole = Plan.model_validate_json((directory / _PLAN).read_text())

    def untouched(step: Step) -> Step:
        return Step(name=step.name, dtype=step.dtype, shape=step.shape, source=step.source)

    shards = [
        Shard(name=shard.name, steps=tuple(map(untouched, shard.steps)), metadata=shard.metadata, like=shard.like)
        for shard in whole.shards
    ]
    _write(directory / "copied", Plan(shards=tuple(shards)))


def touched(directory: Path) -> None:
    """Those of them that the adapter changes, alone."""
    from qwensft_trainer.merging.plan import Plan, Shard

    whole = Plan.model_validate_json((directory / _PLAN).read_text())
    shards = [
        Shard(name=shard.name, steps=tuple(step for step in shard.steps if step.change), metadata=shard.metadata)
        for shard in whole.shards
    ]
    _write(directory / "touched", Plan(shards=tuple(shards)))


def _engine(directory: Path, engine: Literal["streaming", "llamafactory"]) -> None:
    """As the merge stage does it, up to the verification."""
    from qwensft_trainer.base.environment import forbid_hub_access, reuse_memory
    from qwensft_trainer.contract.config import Merge, Run
    from qwensft_trainer.merging import beside, engines
    from qwensft_trainer.merging import files as merged_files

    forbid_hub_access()
    reuse_memory()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    target = directory / engine
    target.mkdir()
    run = Run.model_validate(
        {
            "owner": {"uid": "bench", "namespace": "bench", "name": "bench"},
            "runDirectory": str(directory / "run"),
            "model": {"name": "bench", "path": str(directory / "base"), "template": "qwen"},
            "tuning": {"method": "lora"},
        }
    )
    made = engines.make(
        run,
        Merge(directory=target, engine=engine),
        EXPORT,
        trained=directory / "adapter",
        directory=target,
        digest="bench",
        progress=directory / "progress.json",
    )
    changed = beside.Changed(
        dtype=None, untied=made.plan.untied, rows=made.plan.rows, template="qwen", thinking=True, tokenizer=None
    )
    beside.write(run.model.path, target, changed)
    merged_files.write_manifest(target, made.written)
    _sync(target)
    if engine == "streaming":
        (directory / _PLAN).write_text(made.plan.model_dump_json())


def _verify(directory: Path, level: Literal["tensors", "full"]) -> None:
    from qwensft_trainer.base.environment import forbid_hub_access, reuse_memory
    from qwensft_trainer.contract.child import call
    from qwensft_trainer.merging import verification

    forbid_hub_access()
    reuse_memory()
    found = call(
        verification.verify,
        directory / "base",
        directory / "adapter",
        directory / "streaming",
        lora=True,
        dtype=None,
        untied=False,
        rows=None,
        level=level,
        data=directory / "data",
        trust=False,
    )
    print(json.dumps(found))


def _write(target: Path, plan: Any) -> None:
    from qwensft_trainer.base.environment import reuse_memory
    from qwensft_trainer.contract.child import call
    from qwensft_trainer.merging import streaming as engine

    reuse_memory()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    target.mkdir()
    call(engine.write, plan, target, digest="bench")


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


ALL: dict[str, Callable[[Path], None]] = {
    one.__name__: one for one in (export, streaming, tensors, full, llamafactory, copied, touched)
}
"""By name, in the order in which they run: verification and rates need what the streaming engine has left."""

if __name__ == "__main__":
    ALL[sys.argv[1]](Path(sys.argv[2]))
