"""The file of a dataset's normalised rows: its columns, tables of a few rows, and a writer of the whole.

ADR 0016 says why it is Parquet.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qwensft_trainer.data import duplicates, fast_tokens
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem

TEXT_SIZE = "size"
"""Column: bytes of text in the row."""

MAX_TEXT_BYTES = 8 << 20
MAX_WORD = 500_000
"""Characters that a tokenizer cannot part, and for which it needs several hundred bytes of memory each."""


@cache
def schema() -> Any:
    """Of the file, and of every table of it."""
    import pyarrow

    texts = pyarrow.list_(pyarrow.string())
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string()), ("learn", pyarrow.bool_())])
    return pyarrow.schema(
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


class Rows:
    """Some rows of a dataset, gathered for a table."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._rows: list[dict[str, Any]] = []

    def add(self, number: int, place: str, row: Conversation, images: list[str], videos: list[str]) -> None:
        """Add a row; `number` counts over all files of the dataset, `place` is its file and number there.

        Raises RowProblem for text that cannot be written as UTF-8, and for more of it than any model is trained on.
        """
        self._rows.append(
            {
                "messages": row.messages,
                "system": row.system,
                "tools": row.tools,
                "images": images,
                "videos": videos,
                "dataset": self._dataset,
                "row": number,
                "place": place,
                TEXT_SIZE: _size(row),
                duplicates.FINGERPRINT: duplicates.fingerprint(row, (*images, *videos)),
            }
        )

    def table(self) -> Any:
        """All of them as a pyarrow Table."""
        import pyarrow

        return pyarrow.Table.from_pylist(self._rows, schema())


def _size(row: Conversation) -> int:
    texts = [row.system, row.tools, *(message["content"] for message in row.messages)]
    try:
        size = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise RowProblem("a text holds half of a surrogate pair (\\ud800-\\udfff), which is no character") from error
    if size > MAX_TEXT_BYTES:
        raise RowProblem(
            f"its texts have {size >> 20} MiB, and no model is trained on more than {MAX_TEXT_BYTES >> 20} MiB at "
            "once; split the row"
        )
    if any(len(piece) > MAX_WORD for text in texts if len(text) > MAX_WORD for piece in fast_tokens.pieces(text)):
        raise RowProblem(
            f"a text has more than {MAX_WORD} characters without a blank or a punctuation mark among them, and is "
            "encoded as one word; take it out"
        )
    return size


class Writer:
    """Writes tables to a Parquet file that gets its name when all are written and no exception came."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._writer = parquet.ParquetWriter(self._temporary, schema())

    def add(self, table: Any) -> None:
        """Write a table as a row group."""
        self._writer.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
