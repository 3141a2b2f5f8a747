"""Finds rows that are the same, within a dataset and between training and evaluation.

Every normalised row has a fingerprint: 64 bits of a hash of its texts and its images' content. Of 100 million different
rows two are taken for the same with a probability of 1 in 3,000. Comparing takes about 32 bytes of memory a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from qwensft_trainer.data.row_checks import Conversation

FINGERPRINT = "fingerprint"
"""Column of a normalised file, int64."""

DUPLICATES, SHARED = "duplicateSamples", "evalSamplesInTraining"

_REPEATED = "repeat an earlier row of the dataset exactly"
_ELSEWHERE = "stand in an earlier dataset of the job, too"
_SHARED = "are trained on, too, so evalLoss tells what was learned by heart"
_CHUNK = 1 << 20


def fingerprint(row: Conversation, media: Iterable[str]) -> int:
    """A signed 64-bit number, the same for rows that are the same; `media` are paths whose names tell the content."""
    parts = [row.system, row.tools]
    parts += [
        part for message in row.messages for part in (message["role"], message["content"], str(message.get("learn")))
    ]
    parts += ["/".join(PurePath(path).parts[-2:]) for path in media]  # without the dataset's directory
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), signed=True)


@dataclass
class Duplicates:
    """What is the same in a job's data: figures for the status, and warnings."""

    metrics: dict[str, int]
    warnings: list[str] = field(default_factory=list)


def find(training: Mapping[str, Path], evaluation: Mapping[str, Path]) -> Duplicates:
    """Compare the normalised files of datasets, given by the datasets' names.

    A training row is a duplicate when an earlier row of any training dataset is the same; an evaluation row is shared
    when any training row is.
    """
    import numpy

    found = Duplicates({DUPLICATES: 0} | ({SHARED: 0} if evaluation else {}))
    seen = numpy.empty(0, "int64")
    for name, path in training.items():
        rows = _Rows(name, path)
        found.metrics[DUPLICATES] += rows.repeated + (again := int(_are_in(rows.distinct, seen).sum()))
        found.warnings += rows.warn(rows.repeated, rows.repetitions(), _REPEATED)
        found.warnings += rows.warn(again, rows.places_of(seen), _ELSEWHERE)
        seen = numpy.union1d(seen, rows.distinct)
    for name, path in evaluation.items():
        rows = _Rows(name, path)
        found.metrics[SHARED] += (shared := sum(1 for _ in rows.places_of(seen)))
        found.warnings += rows.warn(rows.repeated, rows.repetitions(), _REPEATED)
        found.warnings += rows.warn(shared, rows.places_of(seen), _SHARED)
    return found


class _Rows:
    """The fingerprints of one file: int64, in the order of its rows, and the different ones in ascending order."""

    def __init__(self, name: str, path: Path) -> None:
        import numpy
        from pyarrow import parquet

        self._name = name
        self._path = path
        self._prints = parquet.read_table(path, columns=[FINGERPRINT])[FINGERPRINT].to_numpy()
        self.distinct = numpy.unique(self._prints)
        self.repeated = len(self._prints) - len(self.distinct)

    def repetitions(self) -> Iterator[int]:
        """The indices of rows that an earlier one equals."""
        import numpy

        ordered = numpy.sort(self._prints)
        several = numpy.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        met: set[int] = set()
        for index in self.places_of(several):
            value = int(self._prints[index])
            if value in met:
                yield index
            met.add(value)

    def places_of(self, values: Any) -> Iterator[int]:
        """The indices of rows whose fingerprint is among `values` (in ascending order)."""
        import numpy

        for start in range(0, len(self._prints), _CHUNK):
            hits = _are_in(self._prints[start : start + _CHUNK], values)
            yield from (int(index) + start for index in numpy.flatnonzero(hits))

    def warn(self, count: int, indices: Iterator[int], what: str) -> list[str]:
        if not count:
            return []
        place = self._place(next(indices))
        return [f"dataset {self._name}: {count} of {len(self._prints)} rows {what} (first: {place})"]

    def _place(self, index: int) -> str:
        from pyarrow import parquet

        with parquet.ParquetFile(self._path) as file:
            for batch in file.iter_batches(columns=["place"]):
                if index < len(batch):
                    return str(batch[0][index])
                index -= len(batch)
        raise IndexError(index)


def _are_in(prints: Any, values: Any) -> Any:
    """Which of the fingerprints are among `values`, which are in ascending order."""
    import numpy

    if not len(values):
        return numpy.zeros(len(prints), bool)
    at = numpy.searchsorted(values, prints)
    return values[numpy.minimum(at, len(values) - 1)] == prints
