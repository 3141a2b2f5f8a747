"""Reads a dataset's files and gives their rows in groups, bounded in number and in memory, for processes to check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.file_types import read_rows
from qwensft_trainer.data.json_rows import Row
from qwensft_trainer.data.layout import NEEDED, columns_of
from qwensft_trainer.data.source import Source

_MOST_ROWS = 1000
_MOST_SIZE = 8 << 20
_TOO_LARGE_TO_SEND = 32 << 20


@dataclass
class Group:
    """Rows of one file that follow each other, after `before` rows of this file and the files before it."""

    file: str
    before: int
    rows: list[Row] = field(default_factory=list)
    size: int = 0

    @property
    def is_too_large_to_send(self) -> bool:
        """Whether it takes so much memory that it must not be there twice."""
        return self.size > _TOO_LARGE_TO_SEND


def read_groups(dataset: Dataset, source: Source) -> Iterator[Group]:
    """Yield all rows of a dataset, in the order of its files."""
    before = 0
    columns = {name for part, name in columns_of(dataset).items() if part in NEEDED}
    for name in source.names:
        path = source.root / name
        log(f"dataset {dataset.name}: checking {name} ({path.stat().st_size} bytes, {dataset.format})")
        group = Group(name, before)
        for row in read_rows(path, columns):
            if group.rows and (len(group.rows) == _MOST_ROWS or group.size + row.size > _MOST_SIZE):
                before += len(group.rows)
                yield group
                group = Group(name, before)
            group.rows.append(row)
            group.size += row.size
        before += len(group.rows)
        if group.rows:
            yield group
