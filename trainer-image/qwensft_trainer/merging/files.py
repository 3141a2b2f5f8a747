"""What stands beside the weights of a merged model, and the manifest that tells a model of ours from other files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import PermanentError, invalid_config
from qwensft_trainer.model import source as model_source

# SHA-256 and size of every file of the merged model. The digest in the status is this file's own SHA-256.
MANIFEST = "qwensft-manifest.json"

# transformers 5 saves tokenizer.json and processor_config.json; servers and converters still look for the older files.
_COMPANIONS = (
    *("vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json"),
)
_RESERVED = ("data", "train", "model")


def copy_companions(base: Path, merged: Path) -> None:
    """Copy the base's files that the export leaves out and other readers look for."""
    for name in _COMPANIONS:
        if not (merged / name).exists() and (base / name).is_file():
            shutil.copyfile(base / name, merged / name)


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


def write_manifest(merged: Path) -> None:
    """List every file with size and SHA-256. Written last, it is the sign that a merge has made the others."""
    files.write_json(merged / MANIFEST, files.manifest_of(merged))


def output_of(directory: Path, workspace: Path) -> dict[str, Any] | None:
    """What the report says of a published model: path on the volume, bytes, digest; None when there is none."""
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return None
    return {
        "path": str(directory.relative_to(workspace)),
        "sizeBytes": sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        "digest": f"sha256:{files.sha256_of_file(manifest)}",
    }


def check_target(run: Run, target: Path) -> None:
    """Replacing a directory deletes what was there: it must be one of ours, or nothing."""
    reserved = [run.run_directory, *(run.run_directory / name for name in _RESERVED)]
    if any(target == path or target in path.parents for path in reserved):
        raise invalid_config(f"spec.merge.path {target} is where the run keeps other files: choose another directory.")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise PermanentError(
            "OutputExists",
            f"{target} holds files that no merge has written (there is no {MANIFEST}): set spec.merge.path to a new "
            "directory.",
        )
