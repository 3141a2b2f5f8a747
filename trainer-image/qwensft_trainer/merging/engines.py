"""The two engines that write merged weights: streaming, and LLaMA-Factory's export for what streaming does not know.

Either result has the base's names and files: what LLaMA-Factory exports is laid out by the streaming engine, as a
trained checkpoint is. Each step is a process of its own, so that the memory of one is not that of the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments
from qwensft_trainer.contract.child import call
from qwensft_trainer.contract.config import Merge, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_config
from qwensft_trainer.merging import export, planning, streaming
from qwensft_trainer.merging.adapter import UnknownError
from qwensft_trainer.merging.plan import Plan
from qwensft_trainer.merging.streaming import Written
from qwensft_trainer.model import source as model_source

_GIGABYTE = 10**9
_EXPORT_SIZE = 2  # that of Qwen's page, which an operator writes where nothing was asked for


@dataclass(frozen=True)
class Made:
    """Merged weights as they were written: by which engine, and why not by the one that was asked for."""

    engine: str
    plan: Plan
    written: Written
    fallback: str = ""


def make(
    run: Run,
    merge: Merge,
    export_arguments: Mapping[str, Any],
    *,
    trained: Path,
    directory: Path,
    digest: str,
    progress: Path,
) -> Made:
    """Write the weights and their index into `directory`, which an interrupted call with this `digest` may have begun.

    `progress` is a file that tells the bytes done. Raises PermanentError, StageError.
    """
    lora, asked = run.tuning.method == "lora", merge.engine
    dtype = None if merge.dtype == "auto" else merge.dtype
    shard_bytes = None if merge.shard_size is None else merge.shard_size * _GIGABYTE
    trust = bool(export_arguments.get("trust_remote_code"))
    size = export_arguments.get("export_size", _EXPORT_SIZE)
    if merge.shard_size is None and size != _EXPORT_SIZE:
        log(f"export_size: {size} of an older operator is not used: the files are the base's, or as shardSizeGB asks")
    unknown = ""
    exported = directory.with_name(f"{directory.name}-export")
    shutil.rmtree(exported, ignore_errors=True)  # a killed process has left it, which may have been of the other engine
    if asked == "streaming":
        try:
            plan = call(
                planning.plan, run.model.path, trained, lora=lora, dtype=dtype, shard_bytes=shard_bytes, trust=trust
            )
        except UnknownError as error:
            unknown = str(error)
            log(f"the streaming engine does not know how to merge {unknown}: LLaMA-Factory does")
    if asked == "llamafactory" or unknown:
        base_dtype = export.base_dtype(run.model.path)
        if lora and dtype not in (None, base_dtype):
            raise invalid_config(
                f"LLaMA-Factory merges adapters in the base's {base_dtype}, and widens what is rounded then: set "
                f"spec.merge.dtype to auto{'' if unknown else ', or spec.merge.engine to streaming'}."
            )
        completed = arguments.export_arguments(
            export_arguments,
            run,
            trained=trained,
            export_to=exported,
            dtype=dtype or export.lossless_dtype(run.model.path),
        )
        try:
            call(export.export, completed)
            plan = call(
                planning.plan, run.model.path, exported, lora=False, dtype=dtype, shard_bytes=shard_bytes, trust=trust
            )
            written = call(streaming.write_and_tell, plan, directory, digest=digest, progress=progress)
        except UnknownError as error:
            raise PermanentError("MergeFailed", f"LLaMA-Factory's export cannot be laid out: {error}.") from error
        finally:
            shutil.rmtree(exported, ignore_errors=True)
    else:
        written = call(streaming.write_and_tell, plan, directory, digest=digest, progress=progress)
    _write_index(plan, run.model.path, directory)
    return Made("llamafactory" if asked == "llamafactory" or unknown else "streaming", plan, written, unknown)


def _write_index(plan: Plan, base: Path, directory: Path) -> None:
    before = files.read_json_object(base / model_source.INDEX)
    index = planning.index_of(plan, before)
    if index is None:
        (directory / model_source.INDEX).unlink(missing_ok=True)
    elif index == before:
        shutil.copyfile(base / model_source.INDEX, directory / model_source.INDEX)
    else:
        files.write_json(directory / model_source.INDEX, index)
