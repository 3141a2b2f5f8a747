"""The merge stage: trained weights become a plain Hugging Face model directory, verified before it appears.

LLaMA-Factory exports into a hidden directory; only a verified result is renamed into place, so a reader of the merged
directory never sees half a model, and an older one stays until the new one is complete.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.base.environment import forbid_hub_access
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, workspace
from qwensft_trainer.contract.config import Merge, Run, load_arguments, load_run
from qwensft_trainer.contract.errors import PermanentError, invalid_config
from qwensft_trainer.contract.stage import Result, Stage
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks

# SHA-256 and size of every file of the merged model. The digest in the status is this file's own SHA-256.
MANIFEST = "qwensft-manifest.json"

# transformers 5 saves tokenizer.json and processor_config.json; servers and converters still look for the older files.
_COMPANIONS = (
    *("vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json"),
)
_RESERVED = ("data", "train", "model")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def run(stage: Stage) -> Result:
    """Returns the output "merged". A merge that is complete for the same inputs returns its recorded result."""
    description = load_run(stage.config)
    export_arguments = load_arguments(stage.config / "export.yaml")
    merge = description.merge
    if merge is None:
        raise invalid_config("run.yaml has no section 'merge'.")
    workspace.require_ownership(description)
    recorded = files.read_json_object(description.train_result)
    if recorded is None:
        raise PermanentError("TrainingMissing", f"{description.run_directory} holds no finished training.")
    model_source.require(description)
    model_checks.require_mergeable(description)
    trained = description.run_directory / recorded["directory"]
    _check_target(description, merge.directory)
    dtype = merge.dtype if merge.dtype != "auto" else base_dtype(description.model.path)
    inputs = files.sha256_of_json(
        {"trained": recorded["outputs"], "export": export_arguments, "dtype": dtype, "verify": merge.verify}
    )
    files.restore_directory(merge.directory)
    done = files.read_json_object(description.merge_result)
    if done and done["inputs"] == inputs and _output(stage, merge.directory) == done["output"]:
        log("merged already")
        return Result(outputs={"merged": done["output"]})
    partial = merge.directory.with_name(f".{merge.directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    forbid_hub_access()
    try:
        _export(
            arguments.export_arguments(export_arguments, description, trained=trained, export_to=partial, dtype=dtype)
        )
        untie_embeddings(partial)
        for name in _COMPANIONS:
            if not (partial / name).exists() and (description.model.path / name).is_file():
                shutil.copyfile(description.model.path / name, partial / name)
        checks = _verify(description, merge, trained, partial, dtype=dtype, export_arguments=export_arguments)
        files.write_json(partial / MANIFEST, files.manifest_of(partial))
        files.replace_directory(partial, merge.directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # a refused model is of no use and as large as the base
    output = _output(stage, merge.directory) or {}
    files.write_json(
        description.merge_result, {"inputs": inputs, "dtype": dtype, "verification": checks, "output": output}
    )
    log(f"merged model in {merge.directory}: {output['sizeBytes']} bytes, {output['digest']}")
    return Result(outputs={"merged": output})


def base_dtype(model: Path) -> str:
    """bf16, fp16 or fp32: the dtype the base model's config states, bf16 when it states none."""
    config = files.read_json_object(model / "config.json") or {}
    return _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), "bf16")


def untie_embeddings(merged: Path) -> None:
    """Tell in config.json that the output embeddings are tensors of their own, where training has made them so.

    An additional target lm_head or embed_tokens takes the two apart. transformers 5 notices, servers trust the config.
    """
    path = merged / "config.json"
    config = files.read_json_object(path) or {}
    parts = [part for part in (config, config.get("text_config")) if part and part.get("tie_word_embeddings")]
    if parts and "lm_head.weight" in model_source.tensors_of(merged):
        for part in parts:
            part["tie_word_embeddings"] = False
        files.write_json(path, config)
        log("the output embeddings are no longer tied to the input embeddings: training changed one of them")


def _export(completed: Mapping[str, Any]) -> None:
    from llamafactory.train.tuner import export_model

    log(f"exporting to {completed['export_dir']} as {completed['infer_dtype']}")
    try:
        export_model(dict(completed))
    except ValueError as error:
        raise_unless_inputs(error)
        raise invalid_config(f"LLaMA-Factory refuses to export: {error}") from error
    gc.collect()


def _verify(
    description: Run, merge: Merge, trained: Path, partial: Path, *, dtype: str, export_arguments: Mapping[str, Any]
) -> dict[str, Any]:
    from qwensft_trainer.base import upstream
    from qwensft_trainer.merging import verification

    upstream.mend()
    base, trust = description.model.path, bool(export_arguments.get("trust_remote_code"))
    lora = description.tuning.method == "lora"
    checks: dict[str, Any] = dict(
        verification.check_tensors(
            base,
            partial,
            dtype=dtype,
            adapter=trained if lora else None,
            resized=bool(export_arguments.get("resize_vocab")),
            trust=trust,
        )
    )
    log(f"verified {checks['tensors']} tensors, {checks['changed']} of them changed by training")
    if merge.verify == "tensors":
        return checks
    prompts = verification.sample_prompts(partial, description.data_directory, trust=trust)
    reference = verification.reference_logits(base, trained, prompts, dtype=dtype, lora=lora, trust=trust)
    comparison = verification.compare(
        reference, verification.model_logits(partial, prompts, dtype=dtype, trust=trust), dtype=dtype
    )
    verification.require_agreement(comparison)
    log(f"verified logits on {len(prompts)} prompts: relative error {comparison.relative_error:.2g}")
    return checks | {
        "prompts": len(prompts),
        "relativeError": comparison.relative_error,
        "tolerance": comparison.tolerance,
    }


def _output(stage: Stage, directory: Path) -> dict[str, Any] | None:
    """What is told of a published model, None when there is none."""
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return None
    return {
        "path": str(directory.relative_to(stage.workspace)),
        "sizeBytes": sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        "digest": f"sha256:{files.sha256_of_file(manifest)}",
    }


def _check_target(description: Run, target: Path) -> None:
    """Replacing a directory deletes what was there: it must be one of ours, or nothing."""
    reserved = [description.run_directory, *(description.run_directory / name for name in _RESERVED)]
    if any(target == path or target in path.parents for path in reserved):
        raise invalid_config(f"spec.merge.path {target} is where the run keeps other files: choose another directory.")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise PermanentError(
            "OutputExists",
            f"{target} holds files that no merge has written (there is no {MANIFEST}): set spec.merge.path to a new "
            "directory.",
        )
