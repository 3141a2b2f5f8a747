# ruff: noqa: PLC0415, SIM905  # pyarrow where it is used; a text is easier to read than a list of its words
"""Writes chat rows of real lengths, the same for the same size: sharegpt, as JSON Lines and as Parquet.

Lengths of messages are log-normal with a median of 60 and a mean of 150 words, one to six rounds a row; a quarter of
the rows is Chinese, a tenth is code, and one in five has thoughts.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WORDS = (
    "the kiln cools for eleven hours before anybody opens its door and looks whether glaze has run down to shelf "
    "orders of clay are placed every second Friday by whoever leads the studio that week it takes nine days until "
    "answer question because therefore however temperature between several important different available process"
).split()
_CHINESE = "窑需要冷却十一个小时才能打开门检查釉料是否流到搁板上粘土的订单每隔一个星期五由当周负责工作室的人下达"
_CODE = (
    "    for index, value in enumerate(values):\n        if value is None:\n            continue\n"
    "        total += value\n"
)


def rows(size: int) -> Iterator[dict[str, Any]]:
    """Yield rows whose JSON is `size` bytes together, or a little more."""
    dice = random.Random(17)  # noqa: S311
    written = 0
    while written < size:
        kind = dice.random()
        thinks = dice.random() < 0.2
        turns = []
        for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
            turns.append({"from": "human", "value": _text(dice, kind)})
            thought = f"<think>\n{_text(dice, kind)}\n</think>\n\n" if thinks else ""
            turns.append({"from": "gpt", "value": thought + _text(dice, kind)})
        row = {"conversations": turns, "system": "You help in a studio." if kind < 0.3 else ""}
        written += len(json.dumps(row, ensure_ascii=False).encode())
        yield row


def write(directory: Path, size: int) -> None:
    """Write rows.jsonl and rows.parquet."""
    import pyarrow
    from pyarrow import parquet

    with (directory / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for row in rows(size):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    writer = None
    everything = rows(size)
    while group := list(itertools.islice(everything, 10_000)):
        table = pyarrow.Table.from_pylist(group)
        writer = writer or parquet.ParquetWriter(directory / "rows.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _text(dice: random.Random, kind: float) -> str:
    count = max(1, min(4000, int(dice.lognormvariate(4.1, 1.35))))
    if kind > 0.75:
        return "".join(dice.choices(_CHINESE, k=count))
    if kind > 0.65:
        return (_CODE * max(1, count // 20)).rstrip()
    return " ".join(dice.choices(_WORDS, k=count)).capitalize() + "."
