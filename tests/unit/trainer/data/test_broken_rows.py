"""Whatever lies in the place of a file with rows: the message names the dataset and the place, and nothing hangs."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Iterator

import pyarrow
import pytest
from pyarrow import parquet

from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError

from .. import broken
from ..conftest import Scene
from .normalised import GOOD, normalised

ROWS = [{"instruction": f"Say {number}", "output": "x" * number} for number in range(60)]


def good() -> Iterator[tuple[str, bytes]]:
    """A file of each format that is read, by its name."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    yield "data.json", json.dumps(ROWS).encode()
    yield "data.jsonl", lines
    yield (
        "data.csv",
        "".join(
            f"{row['instruction']},{row['output']}\n"
            for row in [{"instruction": "instruction", "output": "output"}, *ROWS]
        ).encode(),
    )
    yield (
        "data.tsv",
        "".join(
            f"{row['instruction']}\t{row['output']}\n"
            for row in [{"instruction": "instruction", "output": "output"}, *ROWS]
        ).encode(),
    )
    table = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), table, row_group_size=20)
    yield "data.parquet", table.getvalue()
    yield "data.jsonl.gz", gzip.compress(lines, mtime=0)
    yield "data.json.zst", pyarrow.compress(json.dumps(ROWS).encode(), codec="zstd", asbytes=True)


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The ways in which copies of a file go wrong."""
    for eighth in range(8):
        yield f"cut off after {eighth} eighths", content[: len(content) * eighth // 8]
    yield "cut off by a byte", content[:-1]
    yield "half of it zeros", content[: len(content) // 2] + bytes(len(content) // 2)
    for eighth in range(8):
        place = len(content) * eighth // 8
        yield f"a wrong byte after {eighth} eighths", content[:place] + b"\xff" + content[place + 1 :]
    yield "twice", content + content
    yield "a page of a login behind it", content + b"<!doctype html><html></html>"
    yield "as UTF-16", content.decode("latin-1").encode("utf-16-le")


GOOD_FILES = dict(good())
DAMAGED = [(name, kind, content) for name, whole in GOOD_FILES.items() for kind, content in damaged(whole)]


def judged(scene: Scene) -> str | None:
    """The message of the refusal; None if all rows are taken."""
    refused = None
    try:
        normalised(scene)
    except PermanentError as error:
        refused = error
    if refused is None:
        return None
    assert (refused.reason, refused.exit_code) == ("InvalidDataset", EXIT_PERMANENT)
    assert "tickets" in refused.message
    assert len(refused.message) < 4000
    return refused.message


@pytest.mark.parametrize(
    ("name", "kind", "content"), DAMAGED, ids=lambda value: "" if isinstance(value, bytes) else value
)
def test_a_damaged_file_is_refused_or_read_and_never_breaks_off(
    scene: Scene, name: str, kind: str, content: bytes
) -> None:
    scene.add_dataset("tickets", "", file_name=name).write_bytes(content)
    told = judged(scene)
    if kind.startswith(("cut off", "half")) and not name.endswith((".jsonl", ".csv", ".tsv")):
        assert told is not None  # of formats without an end, a shorter file may be whole


@pytest.mark.parametrize("name", GOOD_FILES)
@pytest.mark.parametrize(
    ("kind", "content"), broken.contents(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_no_row_is_refused_under_any_name(scene: Scene, name: str, kind: str, content: bytes) -> None:
    scene.add_dataset("tickets", "", file_name=name).write_bytes(content)
    assert judged(scene) is not None


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_good_file_is_read(scene: Scene, name: str) -> None:
    scene.add_dataset("tickets", "", file_name=name).write_bytes(GOOD_FILES[name])
    assert judged(scene) is None


@pytest.mark.parametrize(("kind", "make"), broken.places(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_file_is_neither_waited_for_nor_read(scene: Scene, kind: str, make: broken.Break) -> None:
    path = scene.add_dataset("tickets", [GOOD])
    make(path)
    started = time.monotonic()
    told = judged(scene)
    assert time.monotonic() - started < 60
    assert told is not None
    assert "data.json" in told
    expected = {"a directory": "is a directory", "a pipe": "neither a file nor", "a socket": "neither a file nor"}
    assert (
        expected.get(
            kind, "leads out of its volume" if kind in ("a link out of the volume", "a device") else "there is no file"
        )
        in told
    )


@pytest.mark.parametrize(("kind", "make"), broken.places(), ids=lambda value: value if isinstance(value, str) else "")
def test_an_image_that_is_no_file_is_a_problem_of_its_row(scene: Scene, kind: str, make: broken.Break) -> None:
    scene.add_dataset("tickets", [{"instruction": "<image>", "output": "x", "images": ["1.png"]}])
    image = scene.root / "datasets" / "tickets" / "1.png"
    image.touch()
    make(image)
    refused = None
    try:
        normalised(scene, "qwen2_vl")
    except PermanentError as error:
        refused = error.message
    assert refused is not None
    assert "1.png" in refused
