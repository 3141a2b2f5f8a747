"""Which files of a dataset repository hold the rows of a subset's split, by the rules of the library `datasets`.

The library is shown a directory of empty files with the repository's names, so no code of the repository runs, nothing
is fetched, and one implementation serves every hub (ADR 0017). The README may name addresses and paths for the library
to look at: it is kept within that directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.contract.errors import PermanentError, invalid_dataset

# The files in which a repository describes its subsets and splits.
DESCRIPTIONS = ("README.md", ".huggingface.yaml")

# An older description that the library would parse; what it tells of files is in the README, too.
_IGNORED = ("dataset_infos.json",)
_DEFAULT_SPLIT = "train"


def files_of(
    repo: str,
    listed: Sequence[str],
    descriptions: Mapping[str, bytes],
    *,
    subset: str | None,
    split: str | None,
    field: str,
) -> tuple[str, ...]:
    """The names of a split's files, in order. Raises PermanentError InvalidDataset that names the choices."""
    with tempfile.TemporaryDirectory() as scratch:
        skeleton = Path(scratch).resolve() / "repository"
        for name in listed:
            if name not in _IGNORED:
                path = skeleton / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(descriptions.get(name, b""))
        splits = _splits(repo, skeleton, subset, field)
    name = split or _DEFAULT_SPLIT
    if name not in splits:
        raise invalid_dataset(
            f"{repo} has no split {name!r}, but {', '.join(sorted(splits))}: set {field}.split to one of them."
        )
    return splits[name]


def _splits(repo: str, skeleton: Path, subset: str | None, field: str) -> dict[str, tuple[str, ...]]:
    os.environ["HF_DATASETS_OFFLINE"] = "1"  # read at import; nothing here is to ask a hub
    from datasets import load_dataset_builder

    try:
        with _kept_within(skeleton, repo, field):
            builder = load_dataset_builder(str(skeleton), name=subset, cache_dir=str(skeleton.parent / "cache"))
    except PermanentError:
        raise
    except FileNotFoundError as error:
        raise invalid_dataset(
            f"{repo} holds no data files that can be recognised (a repository that builds its data with a script is "
            f"not run): set {field}.path to the file with the rows, or {field}.revision to refs/convert/parquet where "
            "the hub has that."
        ) from error
    except Exception as error:  # the README is anybody's, and so is what goes wrong in reading it
        raise_unless_inputs(error)
        choice = "available" in str(error).lower()
        fix = f"set {field}.subset to one of them" if choice else f"set {field}.path to the file with the rows"
        raise _unclear(repo, error, fix) from error
    return {
        str(split): tuple(Path(path).relative_to(skeleton).as_posix() for path in paths)
        for split, paths in (builder.config.data_files or {}).items()
    }


@contextmanager
def _kept_within(root: Path, repo: str, field: str) -> Iterator[None]:
    """Have the library (datasets 4.0.0) look for files below `root` alone.

    It would list any directory that a README names, and ask any server, with whatever credentials this pod has.
    """
    from datasets import data_files

    resolve = data_files.resolve_pattern

    def resolve_within(pattern: str, base_path: str, *arguments: Any, **options: Any) -> Any:
        place = PurePosixPath(base_path, pattern)
        is_address = "://" in pattern or "::" in pattern
        if is_address or ".." in place.parts or not place.is_relative_to(root):
            raise invalid_dataset(
                f"{repo}: its README names files that are not in the repository ({pattern:.200}): set {field}.path to "
                "the file with the rows."
            )
        return resolve(pattern, base_path, *arguments, **options)

    data_files.resolve_pattern = resolve_within
    try:
        yield
    finally:
        data_files.resolve_pattern = resolve


def _unclear(repo: str, error: Exception, fix: str) -> PermanentError:
    lines = " ".join(line for line in str(error).splitlines() if "load_dataset" not in line and "Example" not in line)
    return invalid_dataset(f"{repo}: it is not clear which files to read ({lines.strip():.300}): {fix}.")
