"""Which files of a dataset repository hold the rows of a subset's split, by the rules of the library `datasets`.

The library is shown a directory of empty files with the repository's names, so no code of the repository runs, nothing
is fetched, and one implementation serves every hub (ADR 0017).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

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
        skeleton = Path(scratch) / "repository"
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
        builder = load_dataset_builder(str(skeleton), name=subset, cache_dir=str(skeleton.parent / "cache"))
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
    root = skeleton.resolve()
    found = {
        str(split): [Path(path).resolve() for path in paths]
        for split, paths in (builder.config.data_files or {}).items()
    }
    if outside := [path for paths in found.values() for path in paths if not path.is_relative_to(root)]:
        raise invalid_dataset(
            f"{repo}: its README names files that are not in the repository ({outside[0]}): set {field}.path to the "
            "file with the rows."
        )
    return {split: tuple(path.relative_to(root).as_posix() for path in paths) for split, paths in found.items()}


def _unclear(repo: str, error: Exception, fix: str) -> PermanentError:
    lines = " ".join(line for line in str(error).splitlines() if "load_dataset" not in line and "Example" not in line)
    return invalid_dataset(f"{repo}: it is not clear which files to read ({lines.strip():.300}): {fix}.")
