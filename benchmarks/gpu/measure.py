"""Runs the two sides, the trainer's stages and bare LLaMA-Factory, as processes and reads what they wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from benchmarks.gpu.figures import Measured, rates

_BETWEEN_LOOKS = 0.01  # seconds; a step on a GPU takes tens of them at least
# torchrun itself, whether or not its script is on PATH.
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def prepare(configuration: Path, root: Path, log: Path) -> dict[str, Any]:
    """Run the trainer's prepare stage: both sides train on the data that it tokenises. Returns what it has counted."""
    _finish(_start(_stage("prepare", configuration, root), log, {}), log, what="prepare")
    metrics: dict[str, Any] = json.loads((root / "workspace" / "run" / "prepare.json").read_text())["metrics"]
    return metrics


def trainer(configuration: Path, root: Path, log: Path, *, warm_up: int, tokens_per_step: float) -> Measured:
    """Measure the trainer's train stage, as it runs in a pod."""
    run = root / "workspace" / "run"
    # With this, or with a checkpoint of the last step, the round before would be recognised, and nothing trained.
    (run / "train.json").unlink(missing_ok=True)
    written = _measure(_stage("train", configuration, root), run / "train" / "1", log, {})
    return rates(*written, warm_up=warm_up, tokens_per_step=tokens_per_step)


def bare(arguments: dict[str, Any], root: Path, log: Path, *, warm_up: int, tokens_per_step: float) -> Measured:
    """Measure LLaMA-Factory's own entry point under torchrun, with the same arguments and the same tokenised data."""
    output, home, path = root / "bare", root / "home", root / "bare.yaml"
    home.mkdir(exist_ok=True)  # Triton keeps its kernels there; a user without an entry in the image has none
    path.write_text(yaml.safe_dump(arguments | {"output_dir": str(output), "overwrite_output_dir": True}))
    command = [*TORCHRUN, "--nproc_per_node", "1", "--master_port", "29501", "-m", "llamafactory.launcher", str(path)]
    environment = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "HOME": str(home), "USER": "bare"}
    return rates(*_measure(command, output, log, environment), warm_up=warm_up, tokens_per_step=tokens_per_step)


def _stage(name: str, configuration: Path, root: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "qwensft_trainer.cli", name),
        *("--config", str(configuration)),
        *("--workspace", str(root / "workspace")),
        *("--scratch", str(root / "scratch")),
        *("--termination-log", str(root / f"{name}-termination.json")),
    ]


def _start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RECORD_VRAM": "1", "DISABLE_VERSION_CHECK": "1", **environment},
        )


def _finish(process: subprocess.Popen[bytes], log: Path, what: str) -> float:
    """Wait for the end; the most memory that one process of the tree held, in GiB. SystemExit when it failed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise SystemExit(f"{what} failed with exit code {process.returncode}; the end of {log}:\n{tail}")
    return usage.ru_maxrss / 2**20


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process runs. Popen.poll would take the end of it, and its memory, from _finish."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _measure(
    command: list[str], output: Path, log: Path, environment: dict[str, str]
) -> tuple[list[dict[str, Any]], list[float], float]:
    """The lines of trainer_log.jsonl, when each came (seconds since the start), and the memory of a process in GiB."""
    path = output / "trainer_log.jsonl"
    started = time.monotonic()
    process = _start(command, log, environment)
    arrivals: list[float] = []
    running = True
    while running:
        running = _runs(process)  # asked first: what is written at the very end is seen, too
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        arrivals += [time.monotonic() - started] * (lines - len(arrivals))
        time.sleep(_BETWEEN_LOOKS)
    memory = _finish(process, log, "the bare command" if "llamafactory.launcher" in command else "the train stage")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    shutil.rmtree(output)  # the last checkpoint of a full fine-tune alone has some 25 GB
    return written, arrivals, memory
