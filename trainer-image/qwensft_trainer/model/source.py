"""Gets the base model to where the run reads it, and checks that a model directory is complete before anything does.

Complete means: config, tokenizer and weights are there and no safetensors file is cut off. Whether the model fits the
job is the question of `model.checks`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.config import Download, Run
from qwensft_trainer.contract.errors import invalid_model
from qwensft_trainer.hubs.download import open_repository
from qwensft_trainer.hubs.repository import Repository, is_commit
from qwensft_trainer.model import cache, documents, merged, safetensors_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Where a volume or an image with the model, or the volume of another run, is mounted.
MOUNT = Path("/model")

# In the run's directory: which commit, or which model of another run, this one began with.
PIN = "model.json"

_ADAPTER = "adapter_config.json"
_TEMPLATES = "additional_chat_templates"  # of transformers 5, which reads all of them
_WEIGHTS_NAME = re.compile(r"[^/\0]+\.safetensors")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def provide(run: Run) -> None:
    """Download the model unless it is there, then check it. Raises StageError (DownloadFailed, InvalidModel, DiskFull).

    A run keeps the commit it began with, also when the branch it names moves on. Of another run's model all is read.
    """
    if run.model.download is not None:
        _obtain(run, run.model.download)
    require(run)
    if run.model.merged_by is not None:
        merged.compare(run, run.model.merged_by, run.run_directory / PIN)


def require(run: Run) -> None:
    """Check that the model is there and complete. Raises PermanentError InvalidModel that tells how to get it back."""
    path = run.model.path
    if path.is_symlink() and not path.exists():
        raise invalid_model(
            f"The model that this run reads, {os.readlink(path)}, is gone from the cache volume (spec.model.cache). "
            f"Create the job again with spec.storage.path naming this run's directory ({run.run_directory.name}) and "
            "spec.storage.onExisting: Resume: it downloads the same model anew and goes on from the checkpoints."
        )
    root = MOUNT if path.is_relative_to(MOUNT) else path.parent
    within = run.model.cache if run.model.cache and path.is_symlink() else root
    check_model(path, within=within, advice=_advice(run), merged=run.merge_planned or run.merge is not None)
    if run.model.merged_by is not None:  # now that its files are known to be files, on its volume
        merged.require(path, run.model.merged_by)


def check_model(directory: Path, *, within: Path, advice: str, merged: bool) -> None:
    """Raises PermanentError InvalidModel that names what is missing in `directory`, followed by `advice`.

    Nothing of it may lie outside of `within` by symbolic links: what stands beside the weights is read, and, where it
    is `merged`, copied into the merged model and listed by name.
    """
    if not directory.is_dir():
        raise invalid_model(f"There is no model directory {directory}. {advice}")
    templates = directory / _TEMPLATES
    for path in (directory, *directory.iterdir(), *(templates.iterdir() if templates.is_dir() else ())):
        if files.leads_out(path, within):
            raise invalid_model(f"{path} leads out of {within} by a symbolic link: put the files themselves there.")
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe never ends
            raise invalid_model(f"{path} is neither a file nor a directory: take it away.")
        if merged and path.is_file() and not files.is_name(path.name):  # the list of files is JSON
            raise invalid_model(
                f"{directory} holds a file whose name is not UTF-8 ({path.name!a}): rename it, as the merged model "
                "gets it, too."
            )
    if (directory / _ADAPTER).exists():
        raise invalid_model(
            f"{directory} holds {_ADAPTER}: transformers 5.5.4 would put that adapter on the model for training, and "
            "the merge would not. Merge it into the model first, or take the file away."
        )
    documents.check(directory, advice)
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    if not any(all((directory / name).is_file() for name in names) for names in _TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    names = weight_files(directory)
    lacking = [name for name in names if not (directory / name).is_file()]
    missing += lacking if lacking != [SINGLE] else [f"{SINGLE} (or {INDEX} with the files that it names)"]
    if missing:
        raise invalid_model(f"The model directory {directory} lacks {', '.join(missing)}. {advice}")
    for name in names:
        _check_weights(directory / name, advice)


def weight_files(directory: Path) -> list[str]:
    """Names of the safetensors files a model consists of, by its index; they need not exist.

    Raises PermanentError InvalidModel for names that are none of files in the directory: a merge writes files of the
    same names.
    """
    index = files.read_json_object(directory / INDEX)
    if index is None:
        return [SINGLE]
    listed = index.get("weight_map")
    names = list(listed.values()) if isinstance(listed, dict) else [listed]
    if not names:
        raise invalid_model(f"{directory / INDEX} names no weights: get a model whose index is whole.")
    if odd := [name for name in names if not (isinstance(name, str) and _WEIGHTS_NAME.fullmatch(name))]:
        raise invalid_model(
            f"{directory / INDEX} names weights that are no .safetensors file in its directory ({odd[0]!r:.100}): get "
            "a model whose index is whole."
        )
    return sorted({str(name) for name in names})


def tensors_of(directory: Path) -> dict[str, dict[str, Any]]:
    """{tensor: {dtype, shape, data_offsets}} of all weight files of a complete model directory."""
    tensors: dict[str, dict[str, Any]] = {}
    for name in weight_files(directory):
        tensors |= safetensors_header.read(directory / name).tensors
    return tensors


def _check_weights(path: Path, advice: str) -> None:
    try:
        header = safetensors_header.read(path)
    except ValueError as error:
        raise invalid_model(f"{path} is not a readable safetensors file ({error}). {advice}") from error
    size = path.stat().st_size
    if size < header.end:
        raise invalid_model(f"{path} is cut off: {size} of {header.end} bytes. {advice}")
    if size > header.end:
        raise invalid_model(f"{path} has {size} bytes, {size - header.end} more than its header says. {advice}")


def _advice(run: Run) -> str:
    if run.model.download is not None:
        if run.model.cache is not None:
            return "Delete that directory from the cache volume and create the job again to download it anew."
        return "Delete that directory and create the job again to download it anew."
    if (merged_by := run.model.merged_by) is not None:
        return (
            f"It was the merged model of QwenSFTJob {merged_by.name} (UID {merged_by.uid}), and was changed or taken "
            "away since. Create this QwenSFTJob anew when that one has merged again, or with another spec.model.source."
        )
    return (
        "It must be a complete Hugging Face model directory: correct spec.model.source.volume (claimName, path) or "
        "spec.model.source.image (reference, path) so that path names the directory that holds config.json."
    )


def _obtain(run: Run, download: Download) -> None:
    """Make run.model.path the model: a directory of the run's own, or a link into the cache that jobs share."""
    path = run.model.path
    pinned = _pinned_commit(run, download)
    found = cache.manifest_of(path)
    if found is not None and found["commit"] == pinned:
        return
    entry = _known_entry(run, download, pinned or download.revision)
    # Once for each run, and before it reads anything: others write to this volume, and disks forget.
    if entry is None or not cache.keep_what_matches(entry, ()):
        repository = _repository(download)
        revision = pinned if is_commit(download.hub, pinned) else download.revision
        snapshot = repository.snapshot(revision)
        if pinned is not None and snapshot.commit != pinned:
            raise invalid_model(
                f"{download.repo} has changed on the hub since this run began (revision {revision or 'default'}), and "
                "the model it began with is gone from the volume. Create the job again, with another spec.storage.path."
            )
        if run.model.cache is None:
            there = files.read_json_object(path / cache.MANIFEST) or {}
            if path.is_symlink() or there.get("commit") != snapshot.commit:
                files.remove(path)
            cache.fill(path, repository, snapshot)
            _pin(run, download, snapshot.commit)
            return
        entry = cache.entry_of(run.model.cache, download.hub, download.repo, snapshot.commit)
        if files.leads_out(entry, run.model.cache):
            raise invalid_model(f"{entry} leads out of the cache volume by a symbolic link: remove the link.")
        if cache.manifest_of(entry) is not None:
            cache.keep_what_matches(entry, cache.model_files(snapshot))
        cache.fill_shared(entry, repository, snapshot, owner=f"{run.owner.namespace}/{run.owner.name}")
    log(f"{download.repo} is in the cache: {entry}")
    _link(path, entry)
    _pin(run, download, entry.name)


def _known_entry(run: Run, download: Download, commit: str | None) -> Path | None:
    """The complete cache entry of a commit that need not be asked for; a pinned one of ModelScope's is a digest."""
    if run.model.cache is None or commit is None:
        return None
    if not is_commit(download.hub, commit) and commit == download.revision:
        return None
    entry = cache.entry_of(run.model.cache, download.hub, download.repo, commit)
    is_there = not files.leads_out(entry, run.model.cache) and cache.manifest_of(entry) is not None
    return entry if is_there else None


def _pinned_commit(run: Run, download: Download) -> str | None:
    """The commit that this run has begun with."""
    pin = files.read_json_object(run.run_directory / PIN) or {}
    return pin.get("commit") if pin.get("download") == download.model_dump(mode="json") else None


def _pin(run: Run, download: Download, commit: str) -> None:
    files.write_json(run.run_directory / PIN, {"download": download.model_dump(mode="json"), "commit": commit})


def _link(path: Path, entry: Path) -> None:
    """Replace `path` by a link to `entry`, whatever it was: a stale link, or a model of the run's own."""
    if not path.is_symlink():
        files.remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_beside(path)
    temporary.symlink_to(entry)
    temporary.replace(path)


def _repository(download: Download) -> Repository:
    return open_repository(
        hub=download.hub,
        kind="model",
        repo=download.repo,
        endpoint=download.endpoint,
        token=credentials.model_token(download.hub),
        field=f"spec.model.source.{download.hub}",
    )
