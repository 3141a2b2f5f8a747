"""Reading, checking and writing rows takes bounded memory, whatever a file holds: each case in a process of its own."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

MIB = 1 << 20
# The rows of one group and what is written of them, and the libraries. Of Parquet a page is read at once, and pyarrow
# writes up to 1,024 values into one: here 120 MiB of images, which are there once packed and once unpacked.
BOUND_MIB = 600

PROGRAM = """
import sys
from pathlib import Path
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.data import normalise, source
from qwensft_trainer.data.thinking import Thinking

path, template = sys.argv[1:]
run = Run.model_validate({
    "owner": {"uid": "u", "namespace": "n", "name": "j"}, "runDirectory": str(Path(path).parent / "run"),
    "model": {"name": "m", "path": "/nowhere"}, "tuning": {"method": "lora"},
    "datasets": [{"name": "d", "format": "alpaca", "path": path}],
})
try:
    print(sum(normalise.write_normalised(run, source.provide(run), Thinking(template)).rows.values()))
except PermanentError as error:
    print(error)
status = Path("/proc/self/status").read_text()  # ru_maxrss counts the process that started this one, too
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def prepared(path: Path, template: str = "qwen3") -> tuple[str, int]:
    """What came of a file, and the peak of the process in MiB."""
    command = [sys.executable, "-c", PROGRAM, str(path), template]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return lines[-2], int(lines[-1])


def row(text: str) -> dict[str, Any]:
    return {"instruction": "Hi", "output": text}


def a_line_of_100_mb(directory: Path) -> Path:
    path = directory / "rows.jsonl"
    path.write_text(json.dumps(row("x" * 100_000_000)) + "\n")
    return path


def small_objects(directory: Path) -> Path:
    path = directory / "rows.json"
    path.write_text('[{"instruction": "Hi", "output": "x", "more": [' + ",".join(["{}"] * (20 * MIB)) + "]}]")
    return path


def small_objects_in_a_line(directory: Path) -> Path:
    path = directory / "rows.jsonl"
    objects = ",".join(['{"a":1}'] * (7 * MIB))
    path.write_text('{"instruction": "Hi", "output": "x", "more": [' + objects + "]}\n")
    return path


def many_rows_in_one_group(directory: Path) -> Path:
    path = directory / "rows.parquet"
    rows = [row("word " * 200) for _ in range(100_000)]
    for place in (10, 20, 30, 40_000):
        rows[place] = row("words " * (7 * MIB // 6))
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=len(rows), compression="snappy")
    return path


def one_text_in_every_row(directory: Path) -> Path:
    """The file has the text once, in some KiB."""
    path = directory / "rows.parquet"
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100), pyarrow.array(["word " * (12 * MIB // 5)]))
    table = pyarrow.table({"instruction": ["Hi"] * 100, "output": texts})
    parquet.write_table(table, path, store_schema=False, dictionary_pagesize_limit=100 * MIB)
    assert path.stat().st_size < MIB
    return path


def a_packed_csv_row_of_cells_without_end(directory: Path) -> Path:
    path = directory / "rows.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b'instruction,output\n"')
        for _ in range(100):
            stream.write(b'x\n","' * (MIB // 5))
    assert path.stat().st_size < 4 * MIB
    return path


def images_in_bytes(directory: Path) -> Path:
    path = directory / "rows.parquet"
    dice = random.Random(3)  # noqa: S311
    rows = []
    for _ in range(40):
        stream = io.BytesIO()
        Image.frombytes("RGB", (1000, 1000), dice.randbytes(3_000_000)).save(stream, "PNG")
        rows.append(row("x") | {"instruction": "<image>", "images": [{"bytes": stream.getvalue(), "path": None}]})
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=40)
    return path


@pytest.mark.parametrize(
    ("make", "template", "expected"),
    [
        (a_line_of_100_mb, "qwen3", "the line is longer than 64 MiB"),
        (small_objects, "qwen3", "so many values that reading it would take more than 512 MiB"),
        (small_objects_in_a_line, "qwen3", "so many values that reading it would take more than 512 MiB"),
        (many_rows_in_one_group, "qwen3", "100000"),
        (images_in_bytes, "qwen2_vl", "40"),
        (one_text_in_every_row, "qwen3", "its texts have 12 MiB, and no model is trained on more than 8"),
        (a_packed_csv_row_of_cells_without_end, "qwen3", "so many values that reading it would take more than 512 MiB"),
    ],
)
def test_the_peak_is_bounded(tmp_path: Path, make: Any, template: str, expected: str) -> None:
    result, peak = prepared(make(tmp_path), template)
    assert expected in result
    assert peak < BOUND_MIB


def test_texts_that_no_model_is_trained_on_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("x" * 9 * MIB)) + "\n")
    result, _ = prepared(path)
    assert "its texts have 9 MiB, and no model is trained on more than 8 MiB at once; split the row" in result
