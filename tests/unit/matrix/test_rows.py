"""The rows of the end-to-end matrix are valid jobs, cover what they must, and count their data right."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.matrix import rows, setting

from qwensft.api.v1alpha1 import parse_job

ROWS = rows.read()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

ACCEPTANCE = {
    "full", "freeze", "lora", "rslora", "pissa", "lora-plus", "qlora", "dora", "dora-qlora",
    "packing", "neat-packing", "deepspeed-zero2", "deepspeed-zero3", "deepspeed-own-json", "two-nodes",
    "alpaca", "sharegpt", "openai", "json", "jsonl", "csv", "parquet", "mixing", "seed-examples",
    "evaluation-fraction", "evaluation-sets", "keep-best", "early-stopping",
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


def test_every_model_of_the_file_is_written() -> None:
    document = yaml.safe_load((rows.DIRECTORY / "rows.yaml").read_text())
    assert set(document["models"]) == set(setting.TINY_MODELS)


@every_row
def test_every_row_is_a_valid_job(row: rows.Row) -> None:
    document = row.job | {"spec": row.spec(model_image="registry.example.com/tiny:1")}
    document["metadata"] = document["metadata"] | {"namespace": "default", "uid": "0a1b2c3d", "generation": 1}
    assert parse_job(document).metadata.name == row.name


def test_the_rows_cover_what_must_be_proven() -> None:
    assert ACCEPTANCE - {shown for row in ROWS for shown in row.shows} == set()


@every_row
def test_freed_memory_goes_back_to_the_kernel(row: rows.Row) -> None:
    """Heaps that keep all of it came to the memory limit, now and then."""
    assert not [variable for variable in row.job["spec"]["worker"]["env"] if variable["name"].startswith("MALLOC_")]


def test_the_core_rows_take_every_code_path() -> None:
    assert ACCEPTANCE - ELSEWHERE - {shown for row in ROWS if row.core for shown in row.shows} == set()


@every_row
def test_the_samples_expected_are_the_rows_of_the_data(row: rows.Row) -> None:
    spec = row.job["spec"]
    counted = sum(count(dataset) for dataset in spec["datasets"])
    expected = row.expected.samples
    if any("weight" in dataset for dataset in spec["datasets"]):
        # Drawn at random: what can be said without the trainer is that neither all rows nor rows in turn give as many.
        counts = [count(dataset) for dataset in spec["datasets"]]
        in_turn = {len(counts) * used_up for used_up in (min(counts), max(counts))}
        assert expected >= min(counts)
        assert expected not in {counted, *in_turn}
    elif "fraction" in spec.get("evaluation", {}):
        assert expected + (row.expected.eval_samples or 0) == counted
    else:
        assert expected == counted
        if row.evaluates:
            assert row.expected.eval_samples == sum(count(dataset) for dataset in spec["evaluation"]["datasets"])


def proofs(row: rows.Row) -> dict[str, bool]:
    """For each thing a row asks for that a trainer could ignore in silence: whether its expectations show that."""
    spec, expected = row.job["spec"], row.expected
    tuning, training = spec.get("tuning", {}), spec["training"]
    lora, adapter = tuning.get("lora") or {}, expected.adapter or {}
    logged = "\n".join(expected.log)
    asked = {
        "a method that trains some tensors only": row.method in {"full", "freeze"},
        "DoRA": row.method == "dora",
        "quantisation": row.method == "qlora" or "quantization" in tuning,
        "rsLoRA": "rslora" in lora,
        "LoRA+": "loraPlusRatio" in lora,
        "PiSSA": "pissa" in lora,
        "packing": "packing" in training,
        "neat packing": "neatPacking" in training,
        "DeepSpeed": "deepspeed" in spec.get("distribution", {}),
        "evaluation": "evaluation" in spec,
        "new tokens": "addTokens" in spec["model"],
    }
    shown = {
        "a method that trains some tensors only": bool(expected.changed),
        "DoRA": adapter.get("use_dora") is True,
        "quantisation": expected.initial_loss is not None and "Quantizing model to" in logged,
        "rsLoRA": adapter.get("use_rslora") is True,
        "LoRA+": "loraplus lr ratio" in logged,
        "PiSSA": adapter.get("r") == 2 * lora.get("rank", 8) and bool(expected.files),
        "packing": "Num examples = " in logged,
        "neat packing": expected.initial_loss is not None,
        "DeepSpeed": bool(expected.files),
        "evaluation": expected.eval_samples is not None,
        "new tokens": bool(expected.tokens),
    }
    return {what: shown[what] for what, is_asked in asked.items() if is_asked}


@every_row
def test_what_could_be_ignored_in_silence_would_show(row: rows.Row) -> None:
    assert [what for what, shown in proofs(row).items() if not shown] == []


def test_neat_packing_starts_elsewhere_than_packing() -> None:
    losses = {row.job["spec"]["training"].get("neatPacking", False): row.expected.initial_loss
              for row in ROWS if "packing" in row.job["spec"]["training"]}  # fmt: skip
    assert losses[True] != losses[False]
