"""The merged model of another run, as the base of this one: it has to be the one with which this run began, whole.

Its manifest, which the merge has written last, lists every file; the manifest's own SHA-256 is the digest that the
operator has noted. All bytes are read once for each run, by prepare, which holds no accelerators; every stage compares
digest, names and sizes, as others may write to that volume, and another merge replaces the model.
ADR 0181 says why.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import cpu_limit
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import MergedBy, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_model
from qwensft_trainer.contract.outputs import MANIFEST


def compare(run: Run, merged_by: MergedBy, pin: Path) -> None:
    """Compare every byte with the manifest unless `pin` tells of that. Raises PermanentError InvalidModel."""
    noted = {"mergedBy": merged_by.model_dump(mode="json"), "path": str(run.model.path)}
    if files.read_json_object(pin) == noted:
        return
    started, directory = time.monotonic(), run.model.path
    listed = _listed(directory, merged_by)
    with ThreadPoolExecutor(cpu_limit()) as threads:
        digests = list(threads.map(lambda name: files.sha256_of_file(directory / name), listed))
    for (name, entry), digest in zip(listed.items(), digests, strict=True):
        if entry.get("sha256") != digest:
            raise _another(directory, merged_by, f"{name} has another content than {MANIFEST} lists")
    log(f"{directory} is the model of {merged_by.name}: {len(listed)} files ({time.monotonic() - started:.1f} s)")
    files.write_json(pin, noted)


def require(directory: Path, merged_by: MergedBy) -> None:
    """Compare the manifest's digest, and names and sizes of the files. Raises PermanentError InvalidModel."""
    _listed(directory, merged_by)


def _listed(directory: Path, merged_by: MergedBy) -> dict[str, dict[str, Any]]:
    """The manifest's entries by name, which the files agree with as far as it can be seen without reading them."""
    manifest = directory / MANIFEST
    listed = files.read_json_object(manifest)
    if listed is None:
        raise _another(directory, merged_by, f"there is no {MANIFEST} that could be read")
    if f"sha256:{files.sha256_of_file(manifest)}" != merged_by.digest:
        raise _another(directory, merged_by, f"its digest is not {merged_by.digest}")
    there = {path.name: path.stat().st_size for path in directory.iterdir() if path.is_file()}
    sizes = {name: entry.get("sizeBytes") if isinstance(entry, dict) else None for name, entry in listed.items()}
    if lacking := sorted(name for name, size in sizes.items() if there.get(name, -1) != size):
        raise _another(directory, merged_by, f"{lacking[0]} is missing, or of another size than {MANIFEST} lists")
    strangers = sorted(name for name in there.keys() - sizes.keys() - {MANIFEST} if not name.startswith("."))
    if strangers:
        raise _another(directory, merged_by, f"{strangers[0]} is in no line of {MANIFEST}")
    return listed


def _another(directory: Path, merged_by: MergedBy, why: str) -> PermanentError:
    return invalid_model(
        f"{directory} is not the merged model of QwenSFTJob {merged_by.name} (UID {merged_by.uid}) with which this run "
        f"began: {why}. It was merged anew, or changed on its volume. Create this QwenSFTJob anew, to begin with what "
        f"{merged_by.name} has now. Where files were changed by hand, have {merged_by.name} merge again before, by a "
        "change of its spec.merge."
    )
