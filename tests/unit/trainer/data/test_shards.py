"""A split is written once, in bounded groups, by one process or several, and reads as if it had been saved whole."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, List, Value, load_from_disk

from qwensft_trainer.contract.errors import StageError, invalid_dataset
from qwensft_trainer.data import shards
from qwensft_trainer.data.lengths import Lengths

FEATURES = Features({"input_ids": List(Value("int32")), "images": List(Value("string"))})


class Encoder:
    """Each word is a token of its length; remembers how large the groups were, in this process."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        self.groups.append(len(rows["text"]))
        if "bad" in rows["text"]:
            raise invalid_dataset("a bad row")
        if "killed" in rows["text"]:
            os.kill(os.getpid(), signal.SIGKILL)
        tokens = [[len(word) for word in text.split()] for text in rows["text"]]
        measures = [[{"full": len(one) + 1, "kept": len(one), "media_cut": False}] for one in tokens]
        return {"input_ids": tokens, "images": [None] * len(tokens), "measures": measures}


def written(
    directory: Path, texts: list[str], encoder: Encoder, *, workers: int = 1, group_rows: int = 1000
) -> tuple[Lengths, Any]:
    rows = Dataset.from_dict({"text": texts})
    lengths = shards.write_split(
        rows,
        encoder,
        FEATURES,
        directory / "train",
        sizes=[len(text) for text in texts],
        group_rows=group_rows,
        workers=workers,
    )
    shards.write_index(directory, ["train"])
    return lengths, load_from_disk(str(directory))["train"]


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_rows_keep_their_order_whatever_the_number_of_processes(tmp_path: Path, workers: int) -> None:
    texts = ["word " * number for number in range(23)]
    lengths, saved = written(tmp_path, texts, Encoder(), workers=workers)
    assert [len(row["input_ids"]) for row in saved] == list(range(23))
    assert saved.features == FEATURES
    assert (lengths.samples, lengths.tokens, lengths.truncated) == (23, sum(range(23)), 23)


def test_parts_have_the_same_size_not_the_same_number_of_rows() -> None:
    sizes = [0] * 900 + [200_000] * 100
    bounds = shards._bounds(sizes, 4)
    assert len(bounds) == 5
    of_parts = [sum(sizes[begin:end]) for begin, end in pairwise(bounds)]
    assert max(of_parts) < 1.3 * min(of_parts)


@pytest.mark.parametrize("sizes", [[], [5], [0, 10**9, 0], [10**9, 0, 0, 0]])
def test_no_part_is_empty_and_none_is_lost(sizes: list[int]) -> None:
    bounds = shards._bounds(sizes, 8)
    assert (bounds[0], bounds[-1]) == (0, len(sizes))
    assert not sizes or all(begin < end for begin, end in pairwise(bounds))


def test_groups_are_bounded_in_rows_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "GROUP_BYTES", 100)
    encoder = Encoder()
    written(tmp_path, ["x" * 10] * 25 + ["x" * 90, "x" * 500, "x"], encoder, group_rows=8)
    assert encoder.groups == [8, 8, 8, 2, 1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_in_a_process_is_raised_as_it_is(tmp_path: Path, workers: int) -> None:
    with pytest.raises(StageError, match="a bad row") as caught:
        written(tmp_path, ["good"] * 9 + ["bad"], Encoder(), workers=workers)
    assert caught.value.reason == "InvalidDataset"


def test_a_process_that_is_killed_is_told_with_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"exit code -9; -9 is mostly want of memory. Raise memory in spec.prepare"):
        written(tmp_path, ["good"] * 9 + ["killed"], Encoder(), workers=2)
