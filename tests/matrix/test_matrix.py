"""Every way of training that the API offers, once for real: each row of rows.yaml is a job that ran on the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from quickstart import follow
from tests.matrix import rows
from tests.matrix.rows import Row
from tests.matrix.runner import Matrix, Result

# Relative error of the logits, by the base's dtype. In float32 merging changes nothing but the order of sums.
TOLERANCES = {"torch.float32": 1e-4, "torch.bfloat16": 2e-2}
# Relative error of the first loss. The closest two that must be told apart, int8 and no quantisation, differ by 7e-4.
LOSS_TOLERANCE = 3e-4


def for_rows(wanted: Callable[[Row], object] = lambda row: True) -> pytest.MarkDecorator:
    """Run a test for every row that has what it is about; those of `make test` carry the mark `core`."""
    chosen = [
        pytest.param(row, id=row.name, marks=[pytest.mark.core] if row.core else [])
        for row in rows.read()
        if wanted(row)
    ]
    return pytest.mark.parametrize("row", chosen, indirect=True)


@for_rows()
def test_it_succeeds_at_the_first_attempt(row: Row, result: Result) -> None:
    assert {name: stage["attempt"] for name, stage in result.status["stages"].items()} == {
        "prepare": 1,
        "train": 1,
        "merge": 1,
    }
    assert result.status.get("restarts", 0) == 0


@for_rows()
def test_the_status_counts_every_row_of_the_data(row: Row, result: Result) -> None:
    counted = result.status["dataset"]
    assert counted["samples"] == row.expected.samples
    assert counted.get("evalSamples", 0) == (row.expected.eval_samples or 0)
    assert counted["tokens"] > 0
    assert 0 < counted["lengthP50"] <= counted["lengthP90"] <= counted["lengthP99"] <= counted["lengthMax"]


@for_rows(lambda row: row.expected.truncated is not None)
def test_the_status_tells_how_many_samples_were_cut(row: Row, result: Result) -> None:
    assert result.status["dataset"]["truncatedSamples"] == row.expected.truncated


@for_rows()
def test_it_trains_to_the_last_step(row: Row, result: Result) -> None:
    progress = result.status["progress"]
    if row.expected.stops_early:
        step, total = map(int, progress["steps"].split("/"))
        assert progress["bestStep"] < step < total == row.steps
        assert progress["bestEvalLoss"] < progress["evalLoss"]
    else:
        assert progress["steps"] == f"{row.steps}/{row.steps}"
    assert progress["loss"] > 0


@for_rows(lambda row: row.expected.initial_loss)
def test_it_started_from_the_loss_of_the_base_it_was_to_train_on(row: Row, result: Result) -> None:
    found = result.status["progress"]["initialLoss"]
    assert found == pytest.approx(row.expected.initial_loss, rel=LOSS_TOLERANCE)


@for_rows(lambda row: row.expected.warnings)
def test_prepare_warns_of_what_may_surprise(row: Row, result: Result) -> None:
    message = follow.condition(result.job, "Prepared")["message"]
    for pattern in row.expected.warnings:
        assert re.search(f"warning: {pattern}", message), message


@for_rows(lambda row: row.evaluates)
def test_the_evaluation_loss_is_in_the_status(row: Row, result: Result) -> None:
    assert result.status["progress"]["evalLoss"] > 0


@for_rows()
def test_the_outputs_are_of_the_right_kind(row: Row, result: Result) -> None:
    outputs = result.status["outputs"]
    assert set(outputs) == row.outputs
    for output in outputs.values():
        assert output["sizeBytes"] > 0
        assert output["digest"].startswith("sha256:")


@for_rows(lambda row: row.expected.log)
def test_rank_0_trained_as_it_was_told(row: Row, result: Result) -> None:
    for pattern in row.expected.log:
        assert re.search(pattern, result.log, re.MULTILINE), f"no {pattern!r} in the log"


@for_rows(lambda row: row.expected.files)
def test_the_training_left_the_files_of_its_kind(row: Row, result: Result, matrix: Matrix) -> None:
    files = matrix.checked(row.name)["files"]
    for pattern in row.expected.files:
        assert [name for name in files if re.search(pattern, name)], f"no file like {pattern!r}"


@for_rows(lambda row: row.expected.template)
def test_prepare_settled_on_the_right_template(row: Row, result: Result, matrix: Matrix) -> None:
    assert matrix.checked(row.name)["prepared"]["template"] == row.expected.template


@for_rows()
def test_the_merged_model_loads_with_plain_transformers_and_computes_what_was_trained(
    row: Row, result: Result, matrix: Matrix
) -> None:
    found = matrix.checked(row.name)
    tolerance = TOLERANCES[found["base_dtype"]]
    assert found["trained_to_merged"] <= tolerance
    assert found["base_to_merged"] > 10 * tolerance, "base and merged are so close that the comparison shows nothing"
    assert found["chat"], "the merged model formats a conversation differently from its base"


@for_rows(lambda row: row.expected.changed)
def test_exactly_the_tensors_that_were_to_be_trained_have_changed(row: Row, result: Result, matrix: Matrix) -> None:
    found = matrix.checked(row.name)["tensors"]
    assert found["missing"] == []
    # Training may take tied embeddings apart; nothing else is added to a model.
    assert set(found["extra"]) <= {"lm_head.weight"}
    for pattern in row.expected.changed:
        assert [name for name in found["changed"] if re.search(pattern, name)], f"nothing like {pattern!r} has changed"
        assert [name for name in found["same"] if re.search(pattern, name)] == []
    anything = re.compile("|".join(row.expected.changed))
    assert [name for name in found["changed"] if not anything.search(name)] == []


@for_rows(lambda row: not row.both_engines)
def test_what_stands_beside_the_weights_is_the_bases_but_for_what_is_said(
    row: Row, result: Result, matrix: Matrix
) -> None:
    # The indexes of files that hold more or other tensors follow from these.
    assert set(matrix.checked(row.name)["unsaid"]) <= {"model.safetensors.index.json"}


@for_rows(lambda row: row.both_engines)
def test_both_engines_make_the_same_of_one_training(row: Row, result: Result, matrix: Matrix) -> None:
    assert result.again is not None
    assert follow.condition(result.again, "Succeeded")["status"] == "True", result.again["status"]
    found = matrix.checked(row.name)["engines"]
    assert (found["engine"], found["files"], found["tensors"]) == ("llamafactory", True, [])
    # LLaMA-Factory adds in the base's own format, and rounds twice.
    assert found["furthest"] <= (1e-5 if matrix.checked(row.name)["base_dtype"] == "torch.float32" else 2**-7)


@for_rows(lambda row: row.expected.adapter)
def test_the_adapter_is_the_one_asked_for(row: Row, result: Result, matrix: Matrix) -> None:
    configuration = matrix.checked(row.name)["adapter"]
    for key, value in (row.expected.adapter or {}).items():
        found = configuration[key]
        assert (sorted(found) if isinstance(found, list) else found) == value


@for_rows(lambda row: row.expected.tokens)
def test_the_merged_tokenizer_holds_the_added_tokens(row: Row, result: Result, matrix: Matrix) -> None:
    tokens = matrix.checked(row.name)["tokens"]
    assert {text: len(ids) for text, ids in tokens.items()} == dict.fromkeys(row.expected.tokens, 1)


@for_rows(lambda row: "cache" in row.shows and row.core)
def test_jobs_that_share_a_cache_download_a_model_once(row: Row, result: Result, matrix: Matrix) -> None:
    sent = matrix.setting.bytes_sent("huggingface", "tiny/qwen3", "model.safetensors")
    assert sent == matrix.setting.size_of("qwen3", "model.safetensors")
