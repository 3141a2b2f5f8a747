"""The merge stage: trained weights become a plain Hugging Face model directory, verified before it appears.

LLaMA-Factory exports into a hidden directory; only a verified result is renamed into place, so a reader of the merged
directory never sees half a model, and an older one stays until the new one is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import forbid_hub_access
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, workspace
from qwensft_trainer.contract.config import Merge, Run, load_arguments, load_run
from qwensft_trainer.contract.errors import PermanentError, invalid_config
from qwensft_trainer.contract.stage import Result, StageContext
from qwensft_trainer.merging import export
from qwensft_trainer.merging import files as merged_files
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks


def main(context: StageContext) -> Result:
    """Returns the output "merged". A merge that is complete for the same inputs returns its recorded result."""
    run = load_run(context.config)
    export_arguments = load_arguments(context.config / "export.yaml")
    merge = run.merge
    if merge is None:
        raise invalid_config("run.yaml has no section 'merge'.")
    workspace.require_ownership(run)
    recorded = files.read_json_object(run.train_result)
    if recorded is None:
        raise PermanentError("TrainingMissing", f"{run.run_directory} holds no finished training.")
    model_source.require(run)
    model_checks.require_mergeable(run)
    trained = run.run_directory / recorded["directory"]
    merged_files.check_target(run, merge.directory)
    dtype = merge.dtype if merge.dtype != "auto" else export.base_dtype(run.model.path)
    inputs = files.sha256_of_json(
        {"trained": recorded["outputs"], "export": export_arguments, "dtype": dtype, "verify": merge.verify}
    )
    files.restore_directory(merge.directory)
    done = files.read_json_object(run.merge_result)
    if (
        done
        and done["inputs"] == inputs
        and merged_files.output_of(merge.directory, context.workspace) == done["output"]
    ):
        log("merged already")
        return Result(outputs={"merged": done["output"]})
    partial = merge.directory.with_name(f".{merge.directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    forbid_hub_access()
    try:
        export.export(
            arguments.export_arguments(export_arguments, run, trained=trained, export_to=partial, dtype=dtype)
        )
        merged_files.untie_embeddings(partial)
        merged_files.copy_companions(run.model.path, partial)
        checks = _verify(run, merge, trained, partial, dtype=dtype, export_arguments=export_arguments)
        merged_files.write_manifest(partial)
        files.replace_directory(partial, merge.directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # a refused model is of no use and as large as the base
    output = merged_files.output_of(merge.directory, context.workspace) or {}
    files.write_json(run.merge_result, {"inputs": inputs, "dtype": dtype, "verification": checks, "output": output})
    log(f"merged model in {merge.directory}: {output['sizeBytes']} bytes, {output['digest']}")
    return Result(outputs={"merged": output})


def _verify(
    run: Run, merge: Merge, trained: Path, merged: Path, *, dtype: str, export_arguments: Mapping[str, Any]
) -> dict[str, Any]:
    from qwensft_trainer.base import upstream
    from qwensft_trainer.merging import verification

    upstream.mend()
    trust, resized = bool(export_arguments.get("trust_remote_code")), bool(export_arguments.get("resize_vocab"))
    return verification.verify(run, merge, trained, merged, dtype=dtype, trust=trust, resized=resized)
