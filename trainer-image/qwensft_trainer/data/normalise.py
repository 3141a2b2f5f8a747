"""Validates every row of every dataset and writes the normalised copies that are tokenised, with dataset_info.json.

One process reads and writes, several check; where the files come from is source.py's part, tokenising
tokenization.py's.
ADR 0016 says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import Dataset, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_dataset
from qwensft_trainer.data import duplicates, processes
from qwensft_trainer.data.control_tokens import ControlTokens
from qwensft_trainer.data.json_rows import Row
from qwensft_trainer.data.layout import without_ignored
from qwensft_trainer.data.media import MediaFiles, check_placeholders
from qwensft_trainer.data.normalised_rows import Rows, Writer
from qwensft_trainer.data.problems import Problems
from qwensft_trainer.data.remarks import Remarks
from qwensft_trainer.data.row_checks import NORMAL_COLUMNS, NORMAL_TAGS, Conversation, conversation
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.row_groups import Group, read_groups
from qwensft_trainer.data.source import Source, all_datasets
from qwensft_trainer.data.thinking import Thinking
from qwensft_trainer.data.unread import Unread
from qwensft_trainer.model import families

_BYTES_WORTH_A_PROCESS = 2 << 20


def normalised_file(run: Run, name: str) -> Path:
    """Where the normalised rows of a dataset are: Parquet, whose schema says the types that JSON leaves open."""
    return run.data_directory / f"{name}.parquet"


class Normalised(NamedTuple):
    """The rows of each dataset, warnings with what matters most first, and figures for the status."""

    rows: dict[str, int]
    warnings: list[str]
    metrics: dict[str, int]


def write_normalised(run: Run, sources: Mapping[str, Source], thinking: Thinking) -> Normalised:
    """Write data/<dataset>.parquet and data/dataset_info.json.

    Raises PermanentError InvalidDataset that shows the first bad rows of all datasets, and how many there are, after
    columns that the job names and no row has.
    """
    problems = Problems()
    counts: dict[str, int] = {}
    missing: list[str] = []
    unread: list[str] = []
    usual: list[str] = []
    tokens: list[str] = []
    remarks: list[str] = []
    run.data_directory.mkdir(parents=True, exist_ok=True)
    for dataset in all_datasets(run):
        seen = _normalise(run, dataset, sources[dataset.name], thinking, problems)
        counts[dataset.name] = rows = seen.rows
        missing += filter(None, [seen.unread.missing()])
        (usual if seen.unread.is_usual else unread).extend(filter(None, [seen.unread.warning()]))
        tokens += seen.tokens.warnings(dataset.name, rows)
        remarks += seen.remarks.warnings(dataset.name, rows)
    if missing or problems.count:
        raise _refusal(missing, problems)
    described = {dataset.name: _describe(dataset, thinking.template) for dataset in all_datasets(run)}
    files.write_json(run.data_directory / "dataset_info.json", described)
    same = duplicates.find(
        {dataset.name: normalised_file(run, dataset.name) for dataset in run.datasets},
        {dataset.name: normalised_file(run, dataset.name) for dataset in all_datasets(run)[len(run.datasets) :]},
    )
    return Normalised(counts, unread + tokens + remarks + same.warnings + usual, same.metrics)


def _refusal(missing: list[str], problems: Problems) -> PermanentError:
    """Both kinds at once: each alone would be the next attempt's failure."""
    if not problems.count:
        return invalid_dataset(" ".join(missing))
    return invalid_dataset(" ".join([*missing, problems.error().message]))


class _Checked:
    """What came of some rows of a dataset: a table of the good ones, the bad ones, and what is noticed beside."""

    def __init__(self, dataset: Dataset, thinking: Thinking) -> None:
        self.rows = 0
        self.table: Any = None
        self.problems: list[tuple[str, str, str]] = []
        self.unread = Unread(dataset, thinking.template)
        self.tokens = ControlTokens(thinking.template, refuse=dataset.control_tokens == "Refuse")
        self.remarks = Remarks()

    def join(self, later: _Checked) -> None:
        """Add what was counted of the rows that follow."""
        self.rows += later.rows
        self.unread.join(later.unread)
        self.tokens.join(later.tokens)
        self.remarks.join(later.remarks)


class _Checker:
    """Checks the rows of one dataset, group by group, in whichever process."""

    def __init__(self, run: Run, dataset: Dataset, source: Source, thinking: Thinking) -> None:
        self._dataset = dataset
        self._thinking = thinking
        directory = run.data_directory / "media" / dataset.name
        self._media = {name: MediaFiles(directory, partial(source.locate, beside=name)) for name in source.names}

    def __call__(self, group: Group) -> _Checked:
        found, good = _Checked(self._dataset, self._thinking), Rows(self._dataset.name)
        found.rows = len(group.rows)
        for number, row in enumerate(group.rows, start=group.before + 1):
            try:
                good.add(number, *self._normal(group.file, row, found))
            except (RowProblem, RecursionError) as error:
                deep = isinstance(error, RecursionError)
                problem = "a text in it holds JSON nested too deeply" if deep else str(error)
                line = f" (line {row.line})" if row.line else ""
                place = f"row {row.number}{line}"
                found.problems.append((f"dataset {self._dataset.name}, file {group.file}", place, problem))
        found.table = good.table()
        return found

    def _normal(self, file: str, row: Row, found: _Checked) -> tuple[str, Conversation, list[str], list[str]]:
        """Place, conversation, images and videos of a row. Raises RowProblem."""
        template, place = self._thinking.template, f"file {file}, row {row.number}"
        given = without_ignored(self._dataset, row.value)
        found.unread.add(given)
        if row.problem:
            raise RowProblem(row.problem)
        value = conversation(self._dataset, given)
        if template in families.VISION:
            check_placeholders(value, template, found.unread.media_hint(given))
        else:
            _refuse_media(self._dataset, given, value, template)
        found.tokens.add(place, value)
        found.remarks.add(place, value.remarks + self._thinking.remarks(value.messages))
        return place, value, *self._media[file].keep(value)


def _normalise(run: Run, dataset: Dataset, source: Source, thinking: Thinking, problems: Problems) -> _Checked:
    size = sum((source.root / name).stat().st_size for name in source.names)
    workers = min(processes.most(), size // _BYTES_WORTH_A_PROCESS)
    check, whole = _Checker(run, dataset, source, thinking), _Checked(dataset, thinking)
    groups = read_groups(dataset, source)
    with Writer(normalised_file(run, dataset.name)) as writer:
        for part in processes.in_order(check, groups, workers, here=lambda group: group.is_too_large_to_send):
            writer.add(part.table)
            whole.join(part)
            for file, place, problem in part.problems:
                problems.add(file, place, problem)
        if whole.rows == 0:
            raise invalid_dataset(f"dataset {dataset.name}, file {', '.join(source.names)}: the file holds no rows.")
    return whole


def _refuse_media(dataset: Dataset, row: Mapping[str, Any], value: Conversation, template: str) -> None:
    for what, found in (("images", value.images), ("videos", value.videos)):
        if found:
            column = dataset.columns.get(what) or what
            place = f"the column '{column}' from the file" if row.get(column) else "them from its messages"
            raise RowProblem(
                f"it has {what}, but a model of template {template} reads text only: remove {place}, or train a "
                "vision-language model"
            )


def _describe(dataset: Dataset, template: str) -> dict[str, Any]:
    """What LLaMA-Factory needs to read the file by itself; prepare does not."""
    media = {"images": "images", "videos": "videos"} if template in families.VISION else {}
    entry: dict[str, Any] = {
        "file_name": f"{dataset.name}.parquet",
        "formatting": "sharegpt",
        "columns": NORMAL_COLUMNS | media,
        "tags": NORMAL_TAGS,
    }
    if dataset.sample_count is not None:
        entry["num_samples"] = dataset.sample_count
    return entry
