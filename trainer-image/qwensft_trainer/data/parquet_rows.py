"""Reads the rows of a Parquet file, with memory bounded however the rows' sizes are spread over its row groups.

A batch is read by its row group's average size, and taken apart row by row where it is larger than that promised. What
a dictionary holds once may stand in every row: a batch has only as many of them as have room if all take the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.data.json_rows import MAX_ROW_COSTS, TOO_MANY_VALUES, Row, costs
from qwensft_trainer.data.row_fields import short_name, twice

_BATCH_ROWS = 100
_BATCH_BYTES = 8 << 20
_UNPACKED_BYTES = 32 << 20
_DICTIONARY_PAGE = b"\x15\x04\x15"  # a dictionary, by its type; then the size


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield every row of a file, without the fields that are null, or a problem where it cannot be read further."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with path.open("rb") as raw, parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if (name := twice(file.schema_arrow.names)) is not None:
                yield Row(
                    1, None, None, f"the file names the column '{short_name(name)}' more than once: leave one of them"
                )
                return
            for group in range(file.metadata.num_row_groups):
                size = _batch_size(file.metadata.row_group(group), raw)
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    for row in _rows(batch, number):
                        number = row.number
                        yield row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError, RecursionError) as error:
        raise_unless_inputs(error)
        yield Row(number + 1, None, None, f"the Parquet file cannot be read any further ({error!s:.200})")


def _rows(batch: Any, before: int) -> Iterator[Row]:
    size = _size(batch)
    if size > 4 * _BATCH_BYTES and batch.num_rows > 1:
        for index in range(batch.num_rows):
            yield from _rows(batch.slice(index, 1), before + index)
    elif size > batch.nbytes + MAX_ROW_COSTS:
        yield Row(before + 1, None, None, TOO_MANY_VALUES)
    else:
        share = size // max(1, batch.num_rows)
        for number, value in enumerate(batch.to_pylist(maps_as_pydicts="strict"), start=before + 1):
            yield Row(number, None, {name: _without_nulls(field) for name, field in value.items()}, size=share)


def _size(batch: Any) -> int:
    """About how many bytes the batch's values take as Python's objects; one bit of a column may be one of them."""
    return int(batch.nbytes) + sum(_costs(column) for column in batch.columns)


def _costs(values: Any) -> int:
    from pyarrow import types

    count = len(values)
    if types.is_struct(values.type):
        return costs(objects=count, values=count) + sum(_costs(field) for field in values.flatten())
    if types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        return costs(lists=count) + _costs(values.flatten())
    if types.is_map(values.type):
        first, last = values.offsets[0].as_py(), values.offsets[-1].as_py()
        entries = (side.slice(first, last - first) for side in (values.keys, values.items))
        return costs(lists=count, objects=last - first) + sum(map(_costs, entries))
    return costs(values=count)


def _without_nulls(value: Any) -> Any:
    """Parquet has no objects without a field that others in the column have: what is not there reads as null.

    Kept, the arguments of one tool would show up in every call of another.
    """
    if isinstance(value, dict):
        return {key: _without_nulls(field) for key, field in value.items() if field is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value


def _batch_size(group: Any, raw: BinaryIO) -> int:
    """Rows of a group that take about _BATCH_BYTES together: a row of a vision dataset may hold megabytes of images."""
    rows = max(1, group.num_rows)
    chunks = [group.column(number) for number in range(group.num_columns)]
    most = sum(_dictionary_bytes(chunk, raw) * max(1, chunk.num_values // rows) for chunk in chunks)
    fitting = min(_BATCH_BYTES * rows // max(1, group.total_byte_size), _UNPACKED_BYTES // max(1, most))
    return int(min(_BATCH_ROWS, max(1, fitting)))


def _dictionary_bytes(chunk: Any, raw: BinaryIO) -> int:
    """The size of a column's dictionary of texts, unpacked, by the header of its page (Thrift's compact protocol).

    Source: PageHeader in parquet.thrift of apache/parquet-format.
    """
    if chunk.physical_type != "BYTE_ARRAY" or not chunk.has_dictionary_page:
        return 0
    raw.seek(chunk.dictionary_page_offset)
    head = raw.read(16)
    if not head.startswith(_DICTIONARY_PAGE):
        return int(chunk.total_uncompressed_size)
    size = shift = 0
    for byte in head[len(_DICTIONARY_PAGE) :]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return size >> 1  # zigzag
