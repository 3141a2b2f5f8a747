"""The merge stage: trained weights become a plain Hugging Face model directory, verified before it appears.

The model is made in a hidden directory; only a verified result is renamed into place, so a reader of the merged
directory never sees half a model, and an older one stays until the new one is complete.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files, metrics_server
from qwensft_trainer.base.environment import cpu_limit, forbid_hub_access, reuse_memory
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, outputs, space, workspace
from qwensft_trainer.contract.child import call
from qwensft_trainer.contract.config import Merge, Run, load_arguments, load_run
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_config
from qwensft_trainer.contract.stage import PROGRESS_FILE, Result, StageContext
from qwensft_trainer.merging import beside, engines, figures
from qwensft_trainer.merging import files as merged_files
from qwensft_trainer.merging.engines import Made
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.reporting import file as report_file
from qwensft_trainer.training import checkpoints

_LITTLE_KEPT = 0.5


def main(context: StageContext) -> Result:
    """Returns the output "merged". A merge that is complete for the same inputs returns its recorded result."""
    began = time.monotonic()
    run = load_run(context.config)
    export_arguments = load_arguments(context.config / "export.yaml")
    merge = run.merge
    if merge is None:
        raise invalid_config("run.yaml has no section 'merge'.")
    workspace.require_within(run, context.workspace)
    workspace.require_ownership(run)
    recorded = files.read_json_object(run.train_result)
    if recorded is None:
        raise PermanentError("TrainingMissing", f"{run.run_directory} holds no finished training.")
    model_source.require(run)
    model_checks.require_mergeable(run)
    trained = run.run_directory / recorded["directory"]
    of_training = _with_digests(run, recorded, context.workspace)
    merged_files.check_target(merge.directory)
    inputs = files.sha256_of_json(
        {
            "trained": of_training,
            "export": export_arguments,
            "merge": merge.model_dump(mode="json", exclude={"directory"}),
        }
    )
    files.restore_directory(merge.directory)
    done = files.read_json_object(run.merge_result)
    if (
        done
        and done["inputs"] == inputs
        and merged_files.output_of(merge.directory, context.workspace) == done["output"]
    ):
        log("merged already")
        merged = of_training | {"merged": done["output"]} | report_file.leave(run, context.workspace)
        return Result(done.get("message", ""), done.get("metrics", {}), merged)
    forbid_hub_access()
    reuse_memory()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the engine has threads of its own, and one way to sum
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_limit()))  # PyTorch, which verifies, counts the node's CPUs
    partial = merge.directory.with_name(f".{merge.directory.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    progress = context.scratch / PROGRESS_FILE
    progress.unlink(missing_ok=True)
    metrics_server.start(context.metrics_port, figures.figures(progress, run.owner.about(context.attempt)))
    made, told, checks = _verified_files(
        run, merge, export_arguments, trained=trained, partial=partial, inputs=inputs, progress=progress
    )
    if lost := beside.missing(run.model.path, partial):
        raise StageError(
            "MergeFailed",
            f"{', '.join(lost[:3])} vanished from {partial}: another pod writes there, perhaps on a lost node.",
        )
    merged_files.write_manifest(partial, made.written)
    files.replace_directory(partial, merge.directory)
    output = merged_files.output_of(merge.directory, context.workspace) or {}
    parity = (files.read_json_object(run.prepare_result) or {}).get("templateParity", {})
    warnings, metrics = _warnings(made, checks, parity), figures.final(made.plan.size)
    message = _message(warnings, parity)
    files.write_json(
        run.merge_result,
        {
            "inputs": inputs,
            "engine": made.engine,
            "differs": told,
            "verification": checks,
            "templateParity": parity,
            "seconds": round(time.monotonic() - began, 1),
            "warnings": warnings,
            "message": message,
            "metrics": metrics,
            "output": output,
        },
    )
    log(f"merged model in {merge.directory}: {output['sizeBytes']} bytes, {output['digest']}")
    return Result(message, metrics, of_training | {"merged": output} | report_file.leave(run, context.workspace))


def _with_digests(run: Run, recorded: Mapping[str, Any], volume: Path) -> dict[str, Any]:
    """The training's outputs; their digests, which it leaves to this stage, are recorded beside the rest of it."""
    described = {
        name: outputs.with_digest(output, volume, exclude=checkpoints.NOT_OUTPUT)
        for name, output in recorded["outputs"].items()
    }
    if described != recorded["outputs"]:
        workspace.require_ownership(run)  # another job may have been told to take the directory over meanwhile
        files.write_json(run.train_result, {**recorded, "outputs": described})
    return described


def _verified_files(
    run: Run,
    merge: Merge,
    export_arguments: Mapping[str, Any],
    *,
    trained: Path,
    partial: Path,
    inputs: str,
    progress: Path,
) -> tuple[Made, list[str], dict[str, Any]]:
    """Make and verify the model in `partial`; what differs from the base's files, and what was found, too."""
    try:
        made = engines.make(
            run, merge, export_arguments, trained=trained, directory=partial, digest=inputs, progress=progress
        )
        told = beside.write(run.model.path, partial, _changed(run, merge, export_arguments, made, trained))
        for line in told:
            log(line)
        checks = _verify(run, merge, trained, partial, made, trust=bool(export_arguments.get("trust_remote_code")))
    except PermanentError:
        shutil.rmtree(partial, ignore_errors=True)  # a refused model is of no use and as large as the base
        raise
    except OSError as error:
        if error.errno in space.FULL:
            shutil.rmtree(partial, ignore_errors=True)  # others need the room until there is enough
        raise
    return made, told, checks


def _changed(run: Run, merge: Merge, export_arguments: Mapping[str, Any], made: Made, trained: Path) -> beside.Changed:
    prepared = files.read_json_object(run.prepare_result) or {}
    return beside.Changed(
        dtype=None if merge.dtype == "auto" else merge.dtype,
        untied=made.plan.untied,
        rows=made.plan.rows,
        template=arguments.template_of(export_arguments, run),
        thinking=export_arguments.get("enable_thinking") is not False,
        tokenizer=trained if export_arguments.get("resize_vocab") else None,
        system=prepared.get("system"),
    )


def _verify(run: Run, merge: Merge, trained: Path, merged: Path, made: Made, *, trust: bool) -> dict[str, Any]:
    return call(
        verified,
        run.model.path,
        trained,
        merged,
        lora=run.tuning.method == "lora",
        dtype=None if merge.dtype == "auto" else merge.dtype,
        untied=made.plan.untied,
        rows=made.plan.rows,
        level=merge.verify,
        data=run.data_directory,
        trust=trust,
    )


def verified(*arguments: Any, **named: Any) -> dict[str, Any]:
    """Verify in the process that is made for it: PyTorch is imported there alone."""
    from qwensft_trainer.merging import verification

    return verification.verify(*arguments, **named)


def _warnings(made: Made, checks: Mapping[str, Any], parity: Mapping[str, int]) -> list[str]:
    """What a reader of the model should know."""
    said = []
    if parity.get("differ"):
        said.append(
            f"the chat template writes {parity['differ']} of {parity['compared']} sample rows otherwise than they were "
            "trained"
        )
    if made.fallback:
        said.append(f"merged by LLaMA-Factory, as the streaming engine does not know {made.fallback}")
    kept = checks.get("kept")
    if kept is not None and kept < _LITTLE_KEPT:
        said.append(
            f"only {kept:.0%} of what training added is left after rounding: train longer or at a higher rate, or set "
            "spec.merge.dtype to fp32"
        )
    return said


def _message(warnings: list[str], parity: Mapping[str, int]) -> str:
    """What the condition Merged says beside success."""
    alike = parity.get("compared") and not parity.get("differ")
    said = f"trained as the chat template writes it, in all of {parity['compared']} sample rows" if alike else ""
    return "; ".join(filter(None, [said, *warnings]))
