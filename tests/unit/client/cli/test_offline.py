"""init, check, render and estimate, with the operator's and the trainer's own code behind them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from qwensft.api.v1alpha1 import parse_job
from qwensft.cli import halves

from .conftest import REPOSITORY, Cli, check_golden

EXAMPLES = REPOSITORY / "examples"
ROWS = '{"instruction": "When is the workshop open?", "output": "From 8 to 18."}\n'


def test_init_writes_what_check_takes(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "support.jsonl").write_text(ROWS * 3)
    made = cli("init", "--rows", "support.jsonl", "--model", "Qwen/Qwen3-8B", "--gpu", "24Gi")
    assert (made.code, made.out) == (0, "wrote job.yaml: support, Qwen/Qwen3-8B, alpaca rows of support.jsonl\n")
    text = (tmp_path / "job.yaml").read_text()
    check_golden("job.yaml", text.rstrip("\n"))
    job = parse_job(next(iter(yaml.safe_load_all(text))))
    assert (job.spec.tuning.method, job.spec.training.liger_kernel) == ("lora", True), "fits in 24 GiB so alone"
    assert job.spec.training.per_device_train_batch_size == 1
    checked = cli("check", "job.yaml")
    assert checked.code == 0
    check_golden("check.txt", checked.out.rstrip("\n"))


def test_init_never_writes_over_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    ended = cli("init", "--rows", "x.jsonl")
    assert (ended.code, (tmp_path / "job.yaml").read_text()) == (2, "mine")
    assert "--force" in ended.err


def test_init_asks_nobody_without_a_terminal(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").err == "error: --rows is missing, and there is no terminal to ask on\n"
    (tmp_path / "rows.jsonl").write_text(ROWS)
    ended = cli("init", "--rows", "rows.jsonl", "--format", "alpaca")
    assert (ended.code, ended.err) == (2, "error: --model is missing, and there is no terminal to ask on\n")


def test_init_leaves_many_rows_where_they_are(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text(ROWS * 4000)
    ended = cli("init", "--rows", "many.jsonl", "--model", "Qwen/Qwen3-0.6B", "--gpus", "0", "-f", "-")
    job = parse_job(yaml.safe_load(ended.out))
    source = job.spec.datasets[0].source.volume
    assert source is not None
    assert (source.claim_name, source.path) == ("rows-many", "many.jsonl")
    assert (job.spec.worker.accelerator.count, job.spec.training.precision) == (0, "fp32")
    assert "# there is no GPU that it has to fit" in ended.out
    assert job.spec.training.warmup_steps == 75  # a tenth of 3 epochs of 250 steps


@pytest.mark.parametrize("name", ["our rows.jsonl", "Zeilen für uns.jsonl", "行.jsonl", b"caf\xe9.jsonl"])
def test_init_takes_files_of_any_name(cli: Cli, tmp_path: Path, name: str | bytes) -> None:
    path = os.fsdecode(name)
    (tmp_path / path).write_text(ROWS)
    made = cli("init", "--rows", path, "--model", "Qwen/Qwen3-0.6B", "--gpus", "0")
    assert made.code == 0, made.err
    job, rows = yaml.safe_load_all((tmp_path / "job.yaml").read_text(encoding="utf-8"))
    assert job["spec"]["datasets"][0]["source"]["configMap"]["key"] == "rows.jsonl"
    assert rows["data"] == {"rows.jsonl": ROWS}
    assert cli("check", "job.yaml").code == 0


def test_init_tells_what_the_api_refuses(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    ended = cli("init", "--rows", "rows.jsonl", "--model", "Qwen3-8B", "--format", "alpaca")
    assert ended.code == 2
    assert "write owner/name" in ended.err


def test_rows_in_no_format_are_told_by_the_trainer(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "Once upon a time"}\n')
    ended = cli("init", "--rows", "rows.jsonl", "--model", "Qwen/Qwen3-8B")
    assert ended.code == 1
    assert "row 1: " in ended.err


def test_check_names_bad_rows_as_prepare_does(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "rows.jsonl"
    bad.write_text(ROWS + '{"instruction": "?"}\n')
    ended = cli("check", str(EXAMPLES / "minimal.yaml"), "--rows", f"support={bad}")
    assert ended.code == 1
    assert (
        "minimal: not ok\n  problem  1 row is invalid: dataset support, file rows.jsonl, row 2 (line 2): " in ended.out
    )


def test_check_names_each_field_that_is_wrong(cli: Cli, tmp_path: Path) -> None:
    job = yaml.safe_load((EXAMPLES / "quickstart.yaml").read_text())
    job["spec"]["training"]["learningRate"] = 7
    job["spec"]["trainning"] = {}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    ended = cli("check", "job.yaml", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["ok"]) == (1, False)
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "spec.training.learningRate",
        "spec.trainning",
    ]


@pytest.mark.parametrize(("rank", "code"), [(16, 0), (32, 1)])
def test_a_job_and_the_one_whose_adapter_it_trains_on_agree(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, code: int
) -> None:
    """As far as both stand in one file."""
    monkeypatch.setattr(halves, "has_trainer", lambda: False)
    first, second = (
        yaml.safe_load((EXAMPLES / name).read_text()) for name in ("qwen3-8b-lora.yaml", "continue-adapter.yaml")
    )
    first["spec"]["tuning"]["lora"]["rank"] = rank
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump_all([first, second]))
    ended = cli("check", "jobs.yaml")
    told = "the adapter of support-8b can be trained on only as it is: set spec.tuning.lora.rank to 32 (it is 16)"
    assert (ended.code, told in ended.out) == (code, code == 1)


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_is_good_by_schema_and_rules(cli: Cli, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "has_trainer", lambda: False)  # its rows are another test's
    assert cli("check", str(EXAMPLES / example)).code == 0


def test_rows_that_nobody_judged_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "has_trainer", lambda: False)
    ended = cli("check", str(EXAMPLES / "minimal.yaml"))
    assert ended.code == 0
    assert "support: not looked at: rows are judged by the trainer's code: pip install 'qwensft[offline]'" in ended.out


def test_a_dataset_that_the_job_has_not(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    ended = cli("check", str(EXAMPLES / "minimal.yaml"), "--rows", "suport=rows.jsonl")
    assert (ended.code, ended.err) == (2, "error: --rows suport=…: minimal has no dataset suport; it has support\n")
    assert "there is no file nowhere" in cli("check", str(EXAMPLES / "minimal.yaml"), "--rows", "support=nowhere").err


def test_estimate_says_what_to_change(cli: Cli) -> None:
    ended = cli("estimate", "--model", "Qwen/Qwen3-8B", "--gpu", "L4")
    assert ended.code == 1
    check_golden("estimate.txt", ended.out.rstrip("\n"))
    assert cli("estimate", "--model", "Qwen/Qwen3-8B", "--gpu", "H100").code == 0
    assert json.loads(cli("estimate", str(EXAMPLES / "minimal.yaml"), "-o", "json").out)["gpuMemoryGiB"] > 1
    assert "one of T4, " in cli("estimate", "--model", "Qwen/Qwen3-8B", "--gpu", "H999").err


def test_render_is_what_the_operator_makes(cli: Cli) -> None:
    ended = cli("render", str(EXAMPLES / "minimal.yaml"))
    kinds = [made["kind"] for made in yaml.safe_load_all(ended.out)]
    claim, service, pair = "PersistentVolumeClaim", "Service", ["ConfigMap", "Job"]
    assert kinds == [claim, *pair, service, *pair, *pair]
    train = yaml.safe_load(cli("render", str(EXAMPLES / "minimal.yaml"), "--only", "train.yaml").out)
    assert (train["stage"], train["finetuning_type"]) == ("sft", "lora")
    assert "there are run.yaml" in cli("render", str(EXAMPLES / "minimal.yaml"), "--only", "x").err


def test_without_the_operator_render_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "has_operator", lambda: False)
    ended = cli("render", str(EXAMPLES / "minimal.yaml"))
    assert (ended.code, "pip install 'qwensft[offline]'" in ended.err) == (4, True)


def test_preview_needs_a_tokenizer_and_rows(cli: Cli, tmp_path: Path) -> None:
    assert "--model" in cli("preview", str(EXAMPLES / "minimal.yaml")).err
    (tmp_path / "config.json").write_text("{}")
    ended = cli("preview", str(EXAMPLES / "quickstart.yaml"), "--model", str(tmp_path))
    assert (ended.code, "=FILE" in ended.err) == (2, True)
    assert cli("preview").code == 2
