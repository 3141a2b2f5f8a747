"""The rows of the end-to-end matrix are valid jobs, cover what they must, and count their data right."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.matrix import rows

from qwensft.api.v1alpha1 import parse_job

ROWS = rows.read()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

ACCEPTANCE = {
    "full", "freeze", "lora", "rslora", "pissa", "lora-plus", "qlora", "dora", "dora-qlora",
    "deepspeed-zero2", "deepspeed-zero3", "deepspeed-own-json", "two-nodes",
    "alpaca", "sharegpt", "openai", "json", "jsonl", "csv", "parquet", "mixing", "seed-examples",
    "evaluation-fraction", "evaluation-sets",
    "volume", "config-map", "url-http", "url-s3", "hugging-face-model", "hugging-face-data", "modelscope-model",
    "cache", "oci-image", "added-tokens",
    "qwen2.5", "qwen3", "qwen3-moe", "vl", "images",
}  # fmt: skip
# What `make test` covers elsewhere: tests/e2e trains the quickstart's job from a volume, and a full fine-tune.
ELSEWHERE = {"volume"}


def count(dataset: dict[str, Any]) -> int:
    """Rows of the file behind a dataset; a Parquet file is made of the text file of the same name."""
    source = dataset["source"]
    name = Path(
        source.get("url", {}).get("url")
        or next((source[kind]["path"] for kind in ("volume", "huggingFace", "modelScope") if kind in source), "")
        or source.get("configMap", {}).get("key")
    )
    path = next(
        found for ending in (name.suffix, ".json", ".jsonl") if (found := rows.DATA / f"{name.stem}{ending}").exists()
    )
    text = path.read_text()
    if path.suffix == ".csv":
        return len(list(csv.DictReader(text.splitlines(keepends=True))))
    rows_of_file = len(json.loads(text)) if path.suffix == ".json" else len(text.splitlines())
    return min(rows_of_file, int(dataset.get("sampleCount", rows_of_file)))


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@every_row
def test_every_row_is_a_valid_job(row: rows.Row) -> None:
    document = row.job | {"spec": row.spec(model_image="registry.example.com/tiny:1")}
    document["metadata"] = document["metadata"] | {"namespace": "default", "uid": "0a1b2c3d", "generation": 1}
    assert parse_job(document).metadata.name == row.name


def test_the_rows_cover_what_must_be_proven() -> None:
    assert ACCEPTANCE - {shown for row in ROWS for shown in row.shows} == set()


def test_the_core_rows_take_every_code_path() -> None:
    assert ACCEPTANCE - ELSEWHERE - {shown for row in ROWS if row.core for shown in row.shows} == set()


@every_row
def test_the_samples_expected_are_the_rows_of_the_data(row: rows.Row) -> None:
    spec = row.job["spec"]
    counted = sum(count(dataset) for dataset in spec["datasets"])
    expected = row.expected.samples
    if any("weight" in dataset for dataset in spec["datasets"]):
        assert expected >= min(count(dataset) for dataset in spec["datasets"])
    elif "fraction" in spec.get("evaluation", {}):
        assert expected + (row.expected.eval_samples or 0) == counted
    else:
        assert expected == counted
        if row.evaluates:
            assert row.expected.eval_samples == sum(count(dataset) for dataset in spec["evaluation"]["datasets"])
