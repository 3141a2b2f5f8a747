"""Downloaded models on a volume: complete directories with a manifest, in a run's own directory or in a shared cache.

A directory appears under its name only when every file in it was checked, by a rename; the manifest is its last file.
In a cache that jobs share, one pod downloads and the others wait for it (`base.lease`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.lease import Lease, LeaseLost
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import HubName
from qwensft_trainer.hubs.download import download_files, is_there
from qwensft_trainer.hubs.repository import HubFile, Repository, Snapshot

MANIFEST = ".qwensft-model.json"

_READERS = 4  # of files; hashing one keeps a CPU busy
# Weights in other formats, which nothing here reads, are often as large as the model itself.
_NOT_NEEDED = (
    *("*.bin", "*.pth", "*.pt", "*.ckpt", "*.gguf", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.ot", "*.tflite"),
    *("original/*", "consolidated*.safetensors", ".git*", "*.mlpackage/*"),
    *(
        "adapter_config.json",
        "adapter_model.*",
    ),  # transformers would put it on the model, and the merge knows nothing of it
    MANIFEST,  # of a model that was published from a cache: ours has its place
)


def manifest_of(directory: Path) -> dict[str, Any] | None:
    """Where the model in `directory` came from: hub, repo, commit and the size of each file. None when incomplete."""
    manifest = files.read_json_object(directory / MANIFEST)
    listed = manifest.get("files") if manifest is not None else None
    if manifest is None or not manifest.get("complete") or not isinstance(listed, dict):
        return None
    there = (
        # Downloads make no links; of other names, and of what they lead to, nothing is to be read or deleted.
        not files.leads_out(directory / name, directory) and is_there(directory / name, file["size"])
        for name, file in listed.items()
    )
    return manifest if all(there) else None


def keep_what_matches(directory: Path, listed: Sequence[HubFile]) -> bool:
    """Read a complete model of a shared cache and compare it with checksums; what differs is deleted. Whether all did.

    `listed` is what the hub says now; without it, the manifest tells what it said when the model was downloaded.
    """
    started = time.monotonic()
    wanted = listed or [
        HubFile(name, file["size"], sha256=file.get("sha256"), git_sha1=file.get("gitSha1"))
        for name, file in ((manifest_of(directory) or {}).get("files") or {}).items()
    ]
    with ThreadPoolExecutor(_READERS) as readers:
        matching = list(readers.map(lambda file: _matches(file, directory), wanted))
    for file in (file for file, matches in zip(wanted, matching, strict=True) if not matches):
        path = directory / file.path
        log(f"{path} is not what its checksum says: it is fetched anew")
        if not _matches(file, directory):  # another pod may have mended it meanwhile
            path.unlink(missing_ok=True)
    log(f"read {len(wanted)} files of {directory} to compare their checksums ({time.monotonic() - started:.1f} s)")
    return all(matching)


def _matches(file: HubFile, directory: Path) -> bool:
    """Whether it is what the hub said; False also where another pod has just taken it away to mend it."""
    try:
        return is_there(directory / file.path, file.size) and file.matches(directory / file.path)
    except FileNotFoundError:
        return False


def entry_of(cache: Path, name: HubName, repo: str, commit: str) -> Path:
    """The directory of a model in a shared cache."""
    return cache / name / repo.replace("/", "--") / commit


def model_files(snapshot: Snapshot) -> list[HubFile]:
    """The files of a model repository that training reads."""
    return [file for file in snapshot.files if not any(fnmatch(file.path, pattern) for pattern in _NOT_NEEDED)]


def fill(directory: Path, repository: Repository, snapshot: Snapshot) -> None:
    """Download a model to `directory`, which this process alone uses; a partial download there is continued."""
    partial = directory.with_name(f".{directory.name}.partial")
    if manifest_of(directory) is None:
        _fill(directory, partial, repository, snapshot, lambda: None)


def fill_shared(directory: Path, repository: Repository, snapshot: Snapshot, owner: str) -> None:
    """Download a model to `directory` of a shared cache unless it is there, or wait for the pod that is doing so.

    `owner` tells the others who is at it. Raises what `download_files` raises; the next pod in line then tries.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    total = sum(file.size or 0 for file in model_files(snapshot))
    while manifest_of(directory) is None:
        lease = Lease(
            directory.with_name(f".{directory.name}.lock"),
            owner,
            note=lambda: f"{_bytes_below(partial) / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB",
        )
        with lease:
            try:
                if lease.acquire(lambda: manifest_of(directory) is not None):
                    _fill(directory, partial, repository, snapshot, lease.check)
            except (LeaseLost, OSError):  # another pod may have moved the directory away under our hands
                if lease.lost:
                    log("this pod was not heard of for a minute, so another one has taken over the download")
                elif manifest_of(directory) is None:
                    raise


def _fill(
    directory: Path, partial: Path, repository: Repository, snapshot: Snapshot, guard: Callable[[], None]
) -> None:
    wanted = model_files(snapshot)
    if directory.exists():
        if manifest_of(directory) is not None:  # a pod that had lost its lease has finished all the same
            return
        log(f"{directory} is incomplete: it is mended")
        files.remove(partial)
        directory.rename(partial)
    if partial.is_symlink():
        partial.unlink()
    files.remove_links(partial)
    begun = files.read_json_object(partial / MANIFEST)
    if begun is None or begun.get("commit") != snapshot.commit:
        files.remove(partial)
    _write_manifest(partial, snapshot, wanted, complete=False)
    download_files(repository, snapshot, wanted, partial, guard=guard)
    _remove_strangers(partial, wanted)
    guard()
    _write_manifest(partial, snapshot, wanted, complete=True)
    try:
        partial.rename(directory)
    except OSError:
        if manifest_of(directory) is None:  # else a pod that took over was faster
            raise
        files.remove(partial)


def _write_manifest(directory: Path, snapshot: Snapshot, wanted: Sequence[HubFile], *, complete: bool) -> None:
    files.write_json(
        directory / MANIFEST,
        {
            "hub": snapshot.hub,
            "repo": snapshot.repo,
            "commit": snapshot.commit,
            "complete": complete,
            "files": {
                file.path: {"size": file.size, "sha256": file.sha256, "gitSha1": file.git_sha1} for file in wanted
            },
        },
    )


def _remove_strangers(directory: Path, wanted: Sequence[HubFile]) -> None:
    """Half files of an earlier way of downloading, and files the hub does not list any more."""
    known = {directory / file.path for file in wanted} | {directory / MANIFEST}
    for path in list(_files_below(directory)):
        if path not in known:
            path.unlink()


def _files_below(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() or path.is_symlink())


def _bytes_below(directory: Path) -> int:
    total = 0
    for path in _files_below(directory):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed meanwhile
            continue
    return total
