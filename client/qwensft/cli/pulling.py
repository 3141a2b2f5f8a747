"""`pull`: a result of the volume onto this machine, gone on with after a break, each file compared with its digest.

ADR 0176 says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwensft.api.v1alpha1 import Output, QwenSFTJob
from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.volume import Volume

MANIFEST: Final = "qwensft-manifest.json"
"""Lists every file of a merged model with size and SHA-256; its own digest stands in the status."""
REPORT: Final = "report.html"
"""The run's page, which is put beside the files of a result."""
_REPORT: Final = "report"
_MODELS: Final = ("merged", "model", "adapter")
_PART: Final = ".part"
_BESIDE: Final = ("attempt.json", "qwensft-checkpoint.json", "qwensft-unusable.json", "qwensft-unloadable.json")
"""Stand beside an adapter and are no part of it: the trainer leaves them out of the digest, too."""

Told = Callable[[str, int, int], None]
"""Hears name, bytes that are there and bytes in all, of the file that is being fetched."""


@dataclass(frozen=True)
class Pulled:
    """What came of it: files that were fetched, and those that were here already."""

    fetched: int
    kept: int
    size: int
    proven: bool
    """Whether each file was compared with a digest that the run has told."""
    names: frozenset[str]
    """The files of the result."""


def result_of(job: QwenSFTJob, what: str) -> Output:
    """Return which result of a run is meant: merged, model, adapter or report; "" is the best model that there is.

    Raises:
        CommandError: the run has no such result.
    """
    there = {name: output for name in (*_MODELS, _REPORT) if (output := _told(job, name)) is not None}
    models = [output for name, output in there.items() if name in _MODELS]
    if what and what not in there:
        has = f"it has {', '.join(there)}" if there else f"it is {job.status.phase or 'Pending'}"
        raise CommandError(f"{job.metadata.name} has no result called {what}; {has}", FAILED)
    if not models:
        raise CommandError(
            f"{job.metadata.name} has no result yet: it is {job.status.phase or 'Pending'}; see qwensft why", FAILED
        )
    return there[what] if what else models[0]


def report_of(job: QwenSFTJob) -> Output | None:
    """Return the page that a run has left, None if it has told of none."""
    return _told(job, _REPORT)


def _told(job: QwenSFTJob, name: str) -> Output | None:
    output: Output | None = getattr(job.status.outputs, name, None)
    return output if output is not None and output.path is not None else None


def pull(volume: Volume, output: Output, target: Path, told: Told) -> Pulled:
    """Fetch a result into a folder; what is there in part is gone on with.

    Raises:
        CommandError: a file has another digest than the run has told, twice; or the folder has other files.
    """
    source = output.path or ""
    sizes = {name: size for name, size in volume.sizes(source).items() if _wanted(name)}
    if not sizes:
        raise CommandError(f"{source} is not on claim {output.claim_name}: was it deleted?", FAILED)
    target.mkdir(parents=True, exist_ok=True)
    strangers = sorted(
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and str(path.relative_to(target)).removesuffix(_PART) not in {*sizes, REPORT}
    )
    if strangers:
        raise CommandError(f"{target} holds other files, such as {strangers[0]}: choose an empty folder with --to")
    digests = _digests(volume, source, output, sizes)
    if digests:
        if missing := sorted(digests.keys() - sizes.keys()):
            raise CommandError(f"{source} lacks {missing[0]}, which its {MANIFEST} lists: was it deleted?", FAILED)
        sizes = {name: size for name, size in sizes.items() if name in digests}
    fetched: dict[Path, Path] = {}
    for name, size in sizes.items():
        path = target / name
        if not _is_there(path, size, digests.get(name)):
            fetched[path] = _fetch(volume, f"{source}/{name}", path, size, digests.get(name), told)
            if digests:
                fetched[path].replace(path)
    if not digests:
        _check_whole(target, {name: fetched.get(target / name, target / name) for name in sizes}, output)
        for path, partial in fetched.items():
            partial.replace(path)
    proven = bool(digests) or output.digest is not None
    return Pulled(len(fetched), len(sizes) - len(fetched), sum(sizes.values()), proven, frozenset(sizes))


def pull_report(volume: Volume, output: Output, target: Path, told: Told) -> Pulled:
    """Fetch the page of a run into a folder, which may hold the model.

    Raises:
        CommandError: it has another digest than the run has told, twice.
    """
    size, digest = output.size_bytes or 0, (output.digest or "").removeprefix("sha256:") or None
    path = target / REPORT
    is_there = digest is not None and _is_there(path, size, digest)
    if not is_there:
        _fetch(volume, output.path or "", path, size, digest, told).replace(path)
    return Pulled(int(not is_there), int(is_there), size, digest is not None, frozenset({REPORT}))


def _wanted(name: str) -> bool:
    """Whether a file is part of a result: one directly in its folder, beside which training keeps checkpoints."""
    return "/" not in name and name not in _BESIDE


def _digests(volume: Volume, source: str, output: Output, sizes: dict[str, int]) -> dict[str, str]:
    """The SHA-256 of each file, from the manifest, which is proven by the status; {} for an adapter, which has none."""
    if MANIFEST not in sizes:
        return {}
    text = b"".join(volume.read(f"{source}/{MANIFEST}"))
    own = hashlib.sha256(text).hexdigest()
    if output.digest is not None and output.digest != f"sha256:{own}":
        raise CommandError(
            f"{source}/{MANIFEST} is not the one that the run told (sha256:{own[:12]}…, not {output.digest[:19]}…): "
            "somebody has changed it, or merges again",
            FAILED,
        )
    listed: dict[str, Any] = json.loads(text)
    return {name: str(entry["sha256"]) for name, entry in listed.items()} | {MANIFEST: own}


def _is_there(path: Path, size: int, digest: str | None) -> bool:
    return path.is_file() and path.stat().st_size == size and (digest is None or _sha256(path) == digest)


def _fetch(volume: Volume, source: str, path: Path, size: int, digest: str | None, told: Told) -> Path:
    """Return the whole of a file, which does not have its name yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + _PART)
    for _ in range(2):  # what is here in part may be of another file: then it is fetched once more, from its beginning
        offset = partial.stat().st_size if partial.is_file() and partial.stat().st_size <= size else 0
        with _named(partial), partial.open("ab" if offset else "wb") as file:
            for piece in volume.read(source, offset):
                file.write(piece)
                offset += len(piece)
                told(path.name, offset, size)
        if partial.stat().st_size == size and (digest is None or _sha256(partial) == digest):
            return partial
        partial.unlink()
    raise CommandError(f"{source} has another content than the run has told: it was changed on the volume", FAILED)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have an error of the file system name its file: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _check_whole(target: Path, files: dict[str, Path], output: Output) -> None:
    """An adapter has one digest, over the lines that sha256sum prints for its files."""
    lines = "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted(files))
    found = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    if output.digest is None or found == output.digest:
        return
    for name, path in files.items():
        if path != target / name:
            path.unlink()  # nobody knows which of them is wrong
    raise CommandError(
        f"{target} is not what the run told ({found[:19]}…, not {output.digest[:19]}…): pull it again, into another "
        "folder if this one held files before",
        FAILED,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
