"""Validates every row of every dataset and writes the normalised copies LLaMA-Factory reads, with dataset_info.json.

Streams row by row; tokenising is tokenization.py's part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwensft_trainer import files
from qwensft_trainer.config import Dataset, Run
from qwensft_trainer.errors import PermanentError, invalid_dataset
from qwensft_trainer.formats import NORMAL_COLUMNS, NORMAL_TAGS, RowProblem, conversation
from qwensft_trainer.log import log
from qwensft_trainer.rows import read_rows

SHOWN_PROBLEMS = 5


class _Problems:
    """The first few bad rows in full, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(text)
            log(f"invalid: {text}")

    def error(self) -> PermanentError:
        more = self.count - len(self._shown)
        head = "1 row is invalid: " if self.count == 1 else f"{self.count} rows are invalid: "
        return invalid_dataset(head + "; ".join(self._shown) + (f"; and {more} more" if more else ""))


def write_normalised(run: Run) -> dict[str, int]:
    """Write data/<dataset>.jsonl and data/dataset_info.json; return the rows of each dataset.

    Raises PermanentError InvalidDataset that shows the first bad rows of all datasets, and how many there are.
    """
    problems = _Problems()
    run.data_directory.mkdir(parents=True, exist_ok=True)
    counts = {dataset.name: _normalise(dataset, run.data_directory, problems) for dataset in run.datasets}
    if problems.count:
        raise problems.error()
    files.write_json(
        run.data_directory / "dataset_info.json", {dataset.name: _describe(dataset) for dataset in run.datasets}
    )
    return counts


def _normalise(dataset: Dataset, directory: Path, problems: _Problems) -> int:
    file_name = _file_name(dataset)
    if not dataset.path.is_file():
        raise _missing(dataset, file_name)
    log(f"dataset {dataset.name}: checking {file_name} ({dataset.path.stat().st_size} bytes, {dataset.format})")
    target = directory / f"{dataset.name}.jsonl"
    temporary = directory / f".{dataset.name}.jsonl.tmp"
    rows = empty = 0
    try:
        with temporary.open("wb") as stream:
            for row in read_rows(dataset.path):
                rows += 1
                try:
                    if row.problem:
                        raise RowProblem(row.problem)
                    value = conversation(dataset, row.value)
                    stream.write(_encode(value))
                    empty += not value["messages"][-1]["content"].strip()
                except RowProblem as problem:
                    line = f" (line {row.line})" if row.line else ""
                    problems.add(f"dataset {dataset.name}, file {file_name}, row {row.number}{line}: {problem}")
        if rows == 0:
            raise invalid_dataset(f"dataset {dataset.name}, file {file_name}: the file holds no rows.")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    if empty:
        log(f"dataset {dataset.name}: warning: {empty} of {rows} rows have an empty answer: they teach to be silent")
    return rows


def _encode(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise RowProblem("a text holds half of a surrogate pair (\\ud800-\\udfff), which is no character") from error


def _describe(dataset: Dataset) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file_name": f"{dataset.name}.jsonl",
        "formatting": "sharegpt",
        "columns": NORMAL_COLUMNS,
        "tags": NORMAL_TAGS,
    }
    if dataset.sample_count is not None:
        entry["num_samples"] = dataset.sample_count
    return entry


def _file_name(dataset: Dataset) -> str:
    """The path as the user wrote it: the mount point of the dataset is ours, not theirs."""
    root = Path("/datasets") / dataset.name
    return str(dataset.path.relative_to(root)) if dataset.path.is_relative_to(root) else str(dataset.path)


def _missing(dataset: Dataset, file_name: str) -> PermanentError:
    if dataset.path.is_dir():
        return invalid_dataset(
            f"dataset {dataset.name}: {file_name} is a directory; name a .json or .jsonl file inside it in the "
            "dataset's source path."
        )
    beside = sorted(path.name for path in dataset.path.parent.iterdir())[:5] if dataset.path.parent.is_dir() else []
    found = f"; beside it are {', '.join(beside)}" if beside else ""
    return invalid_dataset(
        f"dataset {dataset.name}: there is no file {file_name} in its source{found}. Correct the path (or key) in "
        "the dataset's source."
    )
