"""Rows that are the same are counted within and between datasets, with the first place."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from qwensft_trainer.data import duplicates
from qwensft_trainer.data.duplicates import Duplicates, find, fingerprint
from qwensft_trainer.data.row_checks import Conversation


def conversation(question: str, answer: str, system: str = "", tools: str = "") -> Conversation:
    return Conversation(
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], system=system, tools=tools
    )


def test_a_fingerprint_holds_all_that_is_trained_on() -> None:
    tea = conversation("Which tea?", "Green.")
    answered = Conversation([{"role": "observation", "content": "Which tea?"}, tea.messages[1]])
    different = [tea, answered, conversation("Which tea", "?Green.")]
    different += [
        conversation("Which tea?", "Green.", **more) for more in ({"system": "Be brief."}, {"tools": "Be brief."})
    ]
    rows = [fingerprint(row, []) for row in different]
    rows.append(fingerprint(tea, ["/run/data/media/a/ab/cd.png"]))
    assert len(set(rows)) == len(rows)
    assert rows[-1] == fingerprint(tea, ["/run/data/media/other/ab/cd.png"])
    assert all(-(2**63) <= row < 2**63 for row in rows)


def found(tmp_path: Path, training: dict[str, str], evaluation: dict[str, str] | None = None) -> Duplicates:
    """Each letter is a row; letters that are the same are rows that are."""
    return find(
        *({name: _file(tmp_path, name, rows) for name, rows in sets.items()} for sets in (training, evaluation or {}))
    )


def _file(directory: Path, name: str, rows: str) -> Path:
    path = directory / f"{name}.parquet"
    places = [f"file {name}.json, row {number}" for number in range(1, len(rows) + 1)]
    prints = pyarrow.array([ord(letter) - 100 for letter in rows], pyarrow.int64())
    parquet.write_table(pyarrow.table({"place": places, duplicates.FINGERPRINT: prints}), path, row_group_size=2)
    return path


def test_nothing_is_said_of_rows_that_are_all_different(tmp_path: Path) -> None:
    assert found(tmp_path, {"tea": "abc"}) == Duplicates({"duplicateSamples": 0})


@pytest.mark.parametrize("chunk", [2, 1 << 20])
def test_repetitions_are_counted_in_a_dataset_and_over_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(duplicates, "_CHUNK", chunk)
    assert found(tmp_path, {"tea": "zabazzc", "wine": "xcca"}) == Duplicates(
        {"duplicateSamples": 6},
        [
            "dataset tea: 3 of 7 rows repeat an earlier row of the dataset exactly (first: file tea.json, row 4)",
            "dataset wine: 1 of 4 rows repeat an earlier row of the dataset exactly (first: file wine.json, row 3)",
            "dataset wine: 2 of 4 rows stand in an earlier dataset of the job, too (first: file wine.json, row 2)",
        ],
    )


def test_evaluation_rows_that_are_trained_on_are_counted_each(tmp_path: Path) -> None:
    assert found(tmp_path, {"tea": "ab", "wine": "cd"}, {"quiz": "xdda", "other": "y"}) == Duplicates(
        {"duplicateSamples": 0, "evalSamplesInTraining": 3},
        [
            "dataset quiz: 1 of 4 rows repeat an earlier row of the dataset exactly (first: file quiz.json, row 3)",
            "dataset quiz: 3 of 4 rows are trained on, too, so evalLoss tells what was learned by heart (first: file "
            "quiz.json, row 2)",
        ],
    )
