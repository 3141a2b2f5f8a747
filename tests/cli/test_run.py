"""A run from its file to the fetched model, as a user would have it; and one that is held on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.runs import Runs

from .conftest import Cli, typed
from .recording import COMMANDS, compare

JobFile = Callable[[str, dict[str, Any]], str]


def test_a_run_from_its_file_to_the_fetched_model(cli: Cli, runs: Runs, job_file: JobFile, tmp_path: Path) -> None:
    file = job_file("demo", {})
    assert cli("submit", file, "--dry-run").out == "demo: the cluster would take it\n"
    followed = cli("submit", file, "--watch")
    assert followed.code == 0, followed.out
    assert followed.out.startswith(f"demo: submitted in namespace {runs.namespace}\n")
    assert " Succeeded " in followed.out.splitlines()[-1]
    assert any(" Training " in line and "step " in line for line in followed.out.splitlines())
    assert "\x1b" not in followed.out

    shown = cli("status", "demo").out
    assert shown.startswith("demo   Succeeded   Qwen/Qwen3-tiny-random, lora, CPU\n")
    assert all(f"  ✓ {stage} " in shown for stage in ("prepare", "train", "merge"))
    assert "step 40/40" in shown
    assert "merged   demo-" in shown
    compare(COMMANDS, "status-succeeded", lambda: typed(cli, "status", "demo"))
    assert json.loads(cli("status", "demo", "-o", "json").out)["status"]["phase"] == "Succeeded"

    listed = cli("list").out.splitlines()
    assert listed[0].split()[:3] == ["NAME", "PHASE", "REASON"]
    assert any(line.split()[:2] == ["demo", "Succeeded"] for line in listed)

    assert "step" in cli("logs", "demo", "--stage", "train").out
    assert cli("why", "demo").code == 0

    samples = json.loads(cli("preview", "--run", "demo", "-o", "json").out)["samples"]
    assert {sample["dataset"] for sample in samples} == {"handbook", "support-desk"}
    assert "⟦" in cli("preview", "--run", "demo").out
    points = json.loads(cli("plot", "demo", "-o", "json").out)["training"]
    assert points[-1][0] == 40
    assert "training loss" in cli("plot", "demo").out

    target = tmp_path / "model"
    pulled = cli("pull", "demo", "--to", str(target))
    assert pulled.code == 0, pulled.err
    assert "each as the run has told it" in pulled.out
    fetched = {path.name for path in target.iterdir()}
    assert {"config.json", "qwensft-manifest.json", "tokenizer.json", "report.html"} <= fetched
    (target / "config.json").unlink()
    assert "of them here already" in cli("pull", "demo", "--to", str(target)).out
    assert cli("pull", "demo", "--what", "adapter", "--to", str(tmp_path / "adapter")).code == 0
    assert cli("pull", "demo", "--what", "report", "--to", str(tmp_path / "page")).code == 0
    assert (tmp_path / "page" / "report.html").read_bytes() == (target / "report.html").read_bytes()

    asked = cli("clean", "demo")
    assert "/train/1/checkpoint-" in asked.out
    assert "nothing was removed" in asked.err
    assert cli("clean", "demo", "--yes").out.endswith("removed\n")
    assert cli("clean", "demo", "--yes").out == "nothing to remove\n"


def test_a_run_that_is_held_and_let_go_on(cli: Cli, runs: Runs, job_file: JobFile, tmp_path: Path) -> None:
    assert cli("submit", job_file("training", {"training": {"maxSteps": 200}, "merge": {"enabled": False}})).code == 0
    runs.until("training", lambda job: job.get("status", {}).get("progress", {}).get("step", 0) >= 2, "step 2")
    running = cli("status", "training").out
    assert running.startswith("training   Training   ")
    assert "  ▸ train " in running
    assert "/200" in running
    compare(COMMANDS, "status-training", lambda: typed(cli, "status", "training"))

    assert cli("suspend", "training").out.startswith("training: held;")
    runs.until("training", lambda job: job["status"]["phase"] == "Suspended", "Suspended")
    assert "  ‖ train " in cli("status", "training").out
    assert cli("retry", "training").code == 1

    assert cli("resume", "training").out == "training: goes on\n"
    runs.to_the_end("training")
    compared = json.loads(cli("compare", "training", "training", "-o", "json").out)
    assert compared["spec"] == {}
    assert cli("status", "training", "--watch").code == 0

    assert cli("pull", "training", "--what", "report", "--to", str(tmp_path)).code == 0
    page = (tmp_path / "report.html").read_text()
    assert "Attempts at the training" in page
    assert "Merged by" not in page


def test_a_run_waits_for_a_queue_that_does_not_take_it_up(cli: Cli, runs: Runs, job_file: JobFile) -> None:
    assert cli("submit", job_file("queued", {"runPolicy": {"queueName": "gpus"}})).code == 0
    runs.until("queued", lambda job: job.get("status", {}).get("phase") == "Suspended", "Suspended")
    shown = cli("status", "queued").out
    assert "  ✓ prepare " in shown
    assert "  ‖ train " in shown
    assert "Queued: Job queued-train-1 is held for the queue gpus" in shown
    compare(COMMANDS, "status-queued", lambda: typed(cli, "status", "queued"))
    assert cli("why", "queued").out.startswith(f"queued in namespace {runs.namespace}: Suspended (Queued)\n")


def test_what_is_not_there(cli: Cli) -> None:
    ended = cli("status", "nobody")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert cli("logs", "nobody").code == 3
