"""Validates every row of every dataset and writes the normalised copies that are tokenised, with dataset_info.json.

Streams row by row; where the files come from is source.py's part, tokenising tokenization.py's.
ADR 0016 says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Dataset, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_dataset
from qwensft_trainer.data import duplicates
from qwensft_trainer.data.control_tokens import ControlTokens
from qwensft_trainer.data.file_types import read_rows
from qwensft_trainer.data.media import MediaFiles, check_placeholders
from qwensft_trainer.data.problems import Problems
from qwensft_trainer.data.remarks import Remarks
from qwensft_trainer.data.row_checks import NORMAL_COLUMNS, NORMAL_TAGS, Conversation, conversation
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.source import Source, all_datasets
from qwensft_trainer.data.thinking import Thinking
from qwensft_trainer.data.unread import Unread
from qwensft_trainer.model import families

TEXT_SIZE = "size"
"""Column of the normalised file: bytes of text in the row."""

MAX_TEXT_BYTES = 8 << 20
_GROUP_ROWS = 1000
_GROUP_CHARACTERS = 16 << 20


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
    tokens: list[str] = []
    remarks: list[str] = []
    run.data_directory.mkdir(parents=True, exist_ok=True)
    for dataset in all_datasets(run):
        seen = _Seen(dataset, thinking)
        counts[dataset.name] = rows = _normalise(run, dataset, sources[dataset.name], problems, seen)
        missing += filter(None, [seen.unread.missing()])
        unread += filter(None, [seen.unread.warning()])
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
    return Normalised(counts, unread + tokens + remarks + same.warnings, same.metrics)


def _refusal(missing: list[str], problems: Problems) -> PermanentError:
    """Both kinds at once: each alone would be the next attempt's failure."""
    if not problems.count:
        return invalid_dataset(" ".join(missing))
    return invalid_dataset(" ".join([*missing, problems.error().message]))


class _Seen:
    """What is noticed about the rows of one dataset beside whether they are valid."""

    def __init__(self, dataset: Dataset, thinking: Thinking) -> None:
        self.thinking = thinking
        self.unread = Unread(dataset, thinking.template)
        self.tokens = ControlTokens(thinking.template, refuse=dataset.control_tokens == "Refuse")
        self.remarks = Remarks()


def _normalise(run: Run, dataset: Dataset, source: Source, problems: Problems, seen: _Seen) -> int:
    template, rows = seen.thinking.template, 0
    with _Writer(normalised_file(run, dataset.name), dataset.name) as writer:
        for name in source.names:
            path = source.root / name
            log(f"dataset {dataset.name}: checking {name} ({path.stat().st_size} bytes, {dataset.format})")
            media = MediaFiles(run.data_directory / "media" / dataset.name, partial(source.locate, beside=name))
            for row in read_rows(path):
                rows += 1
                place = f"file {name}, row {row.number}"
                seen.unread.add(row.value)
                try:
                    if row.problem:
                        raise RowProblem(row.problem)
                    value = conversation(dataset, row.value)
                    if template in families.VISION:
                        check_placeholders(value, template, seen.unread.media_hint(row.value))
                    else:
                        _refuse_media(dataset, row.value, value, template)
                    seen.tokens.add(place, value)
                    writer.add(rows, place, value, *media.keep(value))
                    seen.remarks.add(place, value.remarks + seen.thinking.remarks(value.messages))
                except (RowProblem, RecursionError) as error:
                    deep = isinstance(error, RecursionError)
                    problem = "a text in it holds JSON nested too deeply" if deep else str(error)
                    line = f" (line {row.line})" if row.line else ""
                    problems.add(f"dataset {dataset.name}, file {name}", f"row {row.number}{line}", problem)
        if rows == 0:
            raise invalid_dataset(f"dataset {dataset.name}, file {', '.join(source.names)}: the file holds no rows.")
    return rows


def _refuse_media(dataset: Dataset, row: Mapping[str, Any], value: Conversation, template: str) -> None:
    for what, found in (("images", value.images), ("videos", value.videos)):
        if found:
            column = dataset.columns.get(what) or what
            place = f"the column '{column}' from the file" if row.get(column) else "them from its messages"
            raise RowProblem(
                f"it has {what}, but a model of template {template} reads text only: remove {place}, or train a "
                "vision-language model"
            )


class _Writer:
    """Writes a dataset's rows to a Parquet file that gets its name when all are written and no exception came."""

    def __init__(self, path: Path, dataset: str) -> None:
        import pyarrow
        from pyarrow import parquet

        texts = pyarrow.list_(pyarrow.string())
        message = pyarrow.struct(
            [("role", pyarrow.string()), ("content", pyarrow.string()), ("learn", pyarrow.bool_())]
        )
        self._schema = pyarrow.schema(
            [
                ("messages", pyarrow.list_(message)),
                ("system", pyarrow.string()),
                ("tools", pyarrow.string()),
                ("images", texts),
                ("videos", texts),
                ("dataset", pyarrow.string()),
                ("row", pyarrow.int64()),
                ("place", pyarrow.string()),
                (duplicates.FINGERPRINT, pyarrow.int64()),
                (TEXT_SIZE, pyarrow.int64()),
            ]
        )
        self._path = path
        self._dataset = dataset
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._writer = parquet.ParquetWriter(self._temporary, self._schema)
        self._group: list[dict[str, Any]] = []
        self._characters = 0

    def add(self, number: int, place: str, row: Conversation, images: list[str], videos: list[str]) -> None:
        """Add a row; `number` counts over all files of the dataset, `place` is its file and number there.

        Raises RowProblem for text that cannot be written as UTF-8.
        """
        texts = [row.system, row.tools, *(message["content"] for message in row.messages)]
        try:
            size = sum(len(text.encode()) for text in texts)
        except UnicodeEncodeError as error:
            raise RowProblem(
                "a text holds half of a surrogate pair (\\ud800-\\udfff), which is no character"
            ) from error
        if size > MAX_TEXT_BYTES:
            raise RowProblem(
                f"its texts have {size >> 20} MiB, and no model is trained on more than {MAX_TEXT_BYTES >> 20} MiB at "
                "once; split the row"
            )
        self._characters += size
        self._group.append(
            {
                "messages": row.messages,
                "system": row.system,
                "tools": row.tools,
                "images": images,
                "videos": videos,
                "dataset": self._dataset,
                "row": number,
                "place": place,
                duplicates.FINGERPRINT: duplicates.fingerprint(row, (*images, *videos)),
                TEXT_SIZE: size,
            }
        )
        if len(self._group) >= _GROUP_ROWS or self._characters >= _GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._group, self._schema))
        self._group = []
        self._characters = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


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
