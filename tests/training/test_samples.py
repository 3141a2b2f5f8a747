"""Answers before and after the training are those of base and result, as plain transformers and peft give them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch  # type: ignore[import-not-found, unused-ignore]
from datasets import DatasetDict, load_from_disk  # type: ignore[import-not-found, unused-ignore]
from peft import LoraConfig, PeftModel, get_peft_model  # type: ignore[import-not-found, unused-ignore]
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)

from qwensft_trainer.training.samples import Answer, Generated, Task

from .gang import ARGUMENTS, PROMPT, Gang, Training
from .tiny import ROWS, write_model, write_rows

COUNT = 3
COMPARED = 40  # tokens of an answer
ENDS = (0, 2)  # the tokenizer's end of a turn, and the model's own end of a text


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lively")
    write_model(directory, lively=True)
    return directory


def left(training: Training) -> dict[str, Any]:
    """samples.json."""
    found: dict[str, Any] = json.loads((training.directory / "samples.json").read_text())
    return found


def answer(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """The first tokens that are most likely one after the other, up to an end."""
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + COMPARED:
            best = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            if best in ENDS:
                break
            tokens.append(best)
    return tokens[len(prompt) :]


def require_answers(training: Training, base: Path, trained: Callable[[PreTrainedModel], PreTrainedModel]) -> None:
    """Samples of the first, the ninth and the seventeenth of 24 rows, each answered by both models."""
    found = left(training)
    assert (found["source"], found["rows"], found["asked"], found["why"]) == ("training", ROWS, COUNT, None)
    rows = load_from_disk(str(training.directory / "data" / "tokenized"))["train"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    before = AutoModelForCausalLM.from_pretrained(base).eval()
    asked = [rows[ROWS * number // COUNT]["input_ids"] for number in range(COUNT)]
    assert [one["row"] for one in found["samples"]] == [1, 9, 17]
    first = [answer(before, row[:PROMPT]) for row in asked]
    after = trained(before).eval()
    for row, told, sample in zip(asked, first, found["samples"], strict=True):
        assert sample["prompt"] == tokenizer.decode(row[:PROMPT])
        assert sample["wanted"] == tokenizer.decode(row[PROMPT:])
        for when, tokens in (("before", told), ("after", answer(after, row[:PROMPT]))):
            # What a token's bytes are part of is seen with the next one.
            assert sample[when]["text"].startswith(tokenizer.decode(tokens).rstrip("\N{REPLACEMENT CHARACTER}"))
            assert sample[when]["complete"] or len(tokens) == COMPARED
    assert any(sample["before"] != sample["after"] for sample in found["samples"])


def test_a_trained_adapter_answers_beside_its_base_and_no_text_leaves_the_volume(base: Path, tmp_path: Path) -> None:
    training = Training(tmp_path, samples=COUNT).prepared(base)
    with training.attempt(1) as gang:
        assert gang.wait() == [0, 0], gang.log(0) + gang.log(1)
        said = gang.log(0) + gang.log(1) + json.dumps([gang.report(rank) for rank in (0, 1)])
    require_answers(training, base, lambda model: PeftModel.from_pretrained(model, training.directory / "train" / "1"))
    for sample in left(training)["samples"]:
        for text in (sample["prompt"], sample["wanted"], sample["before"]["text"], sample["after"]["text"]):
            assert text not in said
            assert json.dumps(text)[1:-1] not in said


def until_it_generates(gang: Gang) -> None:
    """Return once the process that answers runs, which imports for seconds."""
    until = time.monotonic() + 600
    while "generating what the model answers" not in gang.log(0):
        assert gang.nodes[0].poll() is None, gang.log(0)
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_pod_that_is_told_to_stop_meanwhile_has_its_result_and_the_next_does_not_begin_again(
    base: Path, tmp_path: Path
) -> None:
    training = Training(tmp_path, samples=COUNT).prepared(base)
    with training.attempt(1) as gang:
        until_it_generates(gang)
        gang.ask_to_stop(0)
        assert gang.wait() == [0, 0], gang.log(0) + gang.log(1)
        assert gang.report(0)["outcome"] == "Succeeded"
    assert left(training)["why"] == "the pod was asked to stop"
    told = (training.directory / "samples.json").read_bytes()
    assert "the pod was asked to stop" in (training.directory / "report.html").read_text()
    training.train(2)
    assert (training.directory / "samples.json").read_bytes() == told


@pytest.fixture
def task(base: Path, tmp_path: Path) -> Task:
    """A whole model to answer with, of which the rows are held out."""
    trained = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        trained.lm_head.weight.neg_()
    trained.save_pretrained(tmp_path / "trained")
    write_rows(tmp_path / "rows", prompt=PROMPT)
    rows = load_from_disk(str(tmp_path / "rows"))["train"]
    DatasetDict({"train": rows.select([]), "validation": rows}).save_to_disk(tmp_path / "tokenized")
    return Task(
        arguments=ARGUMENTS | {"finetuning_type": "full", "model_name_or_path": str(base), "lora_target": "all"},
        rows=tmp_path / "tokenized",
        count=COUNT,
        base=base,
        trained=tmp_path / "trained",
        adapter=False,
        until=time.monotonic() + 600,
        target=tmp_path / "generated.json",
    )


def generated(task: Task) -> Generated:
    """What the process writes for a task."""
    path = task.target.with_name("task.json")
    path.write_text(json.dumps(task.document()))
    command = [sys.executable, "-m", "qwensft_trainer.training.generation", str(path)]
    subprocess.run(command, check=True, env=os.environ | {"ALLOW_EXTRA_ARGS": "1", "CUDA_VISIBLE_DEVICES": ""})
    found = Generated.read(task.target)
    assert found is not None
    return found


def test_a_model_that_was_trained_as_a_whole_takes_the_place_of_the_base(task: Task) -> None:
    found = generated(task)
    assert (found.source, found.rows, found.why) == ("evaluation", ROWS, None)
    tokenizer = AutoTokenizer.from_pretrained(task.base)
    rows = load_from_disk(str(task.rows))["validation"]
    for directory, when in ((task.base, "before"), (task.trained, "after")):
        model = AutoModelForCausalLM.from_pretrained(directory).eval()
        for sample in found.samples:
            tokens = answer(model, rows[sample.row - 1]["input_ids"][:PROMPT])
            told: Answer = getattr(sample, when)
            assert told.text.startswith(tokenizer.decode(tokens).rstrip("\N{REPLACEMENT CHARACTER}"))


def adapter(base: Path, directory: Path, seed: int) -> Path:
    """A trained adapter of the base, as far as its numbers go."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(directory)
    return directory


def test_an_adapter_that_was_trained_on_gives_its_place_to_the_trained_one(task: Task, tmp_path: Path) -> None:
    begun_with, trained = (adapter(task.base, tmp_path / f"adapter-{seed}", seed) for seed in (1, 2))
    arguments = task.arguments | {"finetuning_type": "lora"}
    found = generated(
        Task(**dict(task) | {"begun_with": begun_with, "trained": trained, "adapter": True, "arguments": arguments})
    )
    tokenizer = AutoTokenizer.from_pretrained(task.base)
    rows = load_from_disk(str(task.rows))["validation"]
    assert found.why is None
    for directory, when in ((begun_with, "before"), (trained, "after")):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(task.base), directory).eval()
        for sample in found.samples:
            told: Answer = getattr(sample, when)
            tokens = answer(model, rows[sample.row - 1]["input_ids"][:PROMPT])
            assert told.text.startswith(tokenizer.decode(tokens).rstrip("\N{REPLACEMENT CHARACTER}"))
    assert [one.before for one in found.samples] != [one.after for one in found.samples]


def test_what_cannot_be_loaded_is_told_beside_what_was_answered_before(task: Task) -> None:
    (task.trained / "model.safetensors").write_bytes(b"")
    found = generated(task)
    assert found.why is not None
    assert found.why.startswith("SafetensorError in ")
    assert all(sample.before and not sample.after for sample in found.samples)


def test_answers_end_where_they_are_when_the_time_is_over(task: Task) -> None:
    found = generated(Task(**dict(task) | {"until": time.monotonic()}))
    assert found.why == "not all was answered within 600 s"
    assert all(sample.prompt and not sample.before and not sample.after for sample in found.samples)
