"""Gets the base model onto the volume and checks that a model directory is complete before anything reads it.

Complete means: config, tokenizer and weights are there and no safetensors file is cut off. Whether the numbers make
sense is not looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from qwensft_trainer import files
from qwensft_trainer.config import Download, Run
from qwensft_trainer.errors import PermanentError, StageError, invalid_model
from qwensft_trainer.log import log

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def provide(run: Run) -> None:
    """Download the model unless it is there, then check it. Raises StageError (DownloadFailed, InvalidModel)."""
    download = run.model.download
    if download is not None and not run.model.path.is_dir():
        partial = run.run_directory / ".model.partial"
        log(f"downloading {download.repo} (revision {download.revision or 'default'}) from {download.hub}")
        _fetch(download, partial)
        partial.rename(run.model.path)
    check_model(run.model.path, advice=_advice(run))


def check_model(directory: Path, *, advice: str) -> None:
    """Raises PermanentError InvalidModel that names what is missing in `directory`, followed by `advice`."""
    if not directory.is_dir():
        raise invalid_model(f"There is no model directory {directory}. {advice}")
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    if not any(all((directory / name).is_file() for name in names) for names in _TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    missing += [name for name in weight_files(directory) if not (directory / name).is_file()]
    if missing:
        raise invalid_model(f"The model directory {directory} lacks {', '.join(missing)}. {advice}")
    for name in weight_files(directory):
        _check_not_cut_off(directory / name, advice)


def weight_files(directory: Path) -> list[str]:
    """Names of the safetensors files a model consists of, by its index; they need not exist."""
    index = files.read_json_object(directory / INDEX)
    if index is None:
        return [SINGLE]
    return sorted(set(index.get("weight_map", {}).values()))


def read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The header of a safetensors file ({tensor: {dtype, shape, data_offsets}}) and the file size it implies, in bytes.

    Raises ValueError when the file is no safetensors file or ends inside its header.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= 100 << 20:
            raise ValueError("no safetensors header")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)


def _check_not_cut_off(path: Path, advice: str) -> None:
    try:
        _, expected = read_header(path)
    except (ValueError, KeyError, TypeError) as error:
        raise invalid_model(f"{path} is not a readable safetensors file ({error}). {advice}") from error
    size = path.stat().st_size
    if size < expected:
        raise invalid_model(f"{path} is cut off: {size} of {expected} bytes. {advice}")


def _advice(run: Run) -> str:
    if run.model.download is not None:
        return "Delete that directory and create the job again to download it anew."
    return (
        "Copy a complete Hugging Face model directory there, or correct spec.model.source.volume.claimName and path "
        "(the directory that holds config.json)."
    )


def _fetch(download: Download, directory: Path) -> None:
    """Download into `directory`; a repeated call continues what an interrupted one has left."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        if download.hub == "huggingFace":
            _fetch_hugging_face(download, directory)
        else:
            _fetch_model_scope(download, directory)
    except StageError:
        raise
    except OSError as error:
        if error.errno is not None and error.strerror and "space" in error.strerror:
            raise
        raise _download_failed(download, error) from error
    except Exception as error:  # hub clients raise many kinds; all but the named ones may pass with time
        raise _download_failed(download, error) from error


def _fetch_hugging_face(download: Download, directory: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot_download(
            download.repo,
            revision=download.revision,
            local_dir=directory,
            ignore_patterns=["*.bin", "*.pth", "*.pt", "*.gguf", "*.onnx", "original/*"],
        )
    except GatedRepoError as error:
        raise invalid_model(
            f"{download.repo} is gated: accept its terms on the hub and give a token in "
            "spec.model.source.huggingFace.tokenSecretRef."
        ) from error
    except RepositoryNotFoundError as error:
        raise _not_found(download, "huggingFace") from error
    except RevisionNotFoundError as error:
        raise invalid_model(
            f"{download.repo} has no revision {download.revision!r}: correct spec.model.source.huggingFace.revision."
        ) from error


def _fetch_model_scope(download: Download, directory: Path) -> None:
    from modelscope_hub import (  # type: ignore[import-not-found, unused-ignore]
        HubApi,
        NotExistError,
        NotFoundError,
    )

    try:
        HubApi(token=os.environ.get("MODELSCOPE_API_TOKEN")).download_repo(
            download.repo, "model", revision=download.revision, local_dir=directory
        )
    except (NotExistError, NotFoundError) as error:
        raise _not_found(download, "modelScope") from error


def _not_found(download: Download, member: str) -> PermanentError:
    return invalid_model(
        f"There is no model {download.repo} on the hub, or it is private: correct spec.model.source.{member}.repo (or "
        f"spec.model.name), or give a token in spec.model.source.{member}.tokenSecretRef."
    )


def _download_failed(download: Download, error: Exception) -> StageError:
    return StageError(
        "DownloadFailed",
        f"Downloading {download.repo} failed ({type(error).__name__}: {error!s:.300}). It is tried again; in a "
        "cluster without access to the hub set spec.model.source.volume instead.",
    )
