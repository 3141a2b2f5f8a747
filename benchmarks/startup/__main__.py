"""`python -m benchmarks.startup --python PYTHON`: what a training's processes import, and for how long.

PYTHON has the trainer image's libraries; README.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TRAINER = Path(__file__).parents[2] / "trainer-image"
_RECORD = "from torch.distributed.elastic.multiprocessing.errors import record\n"
THEIRS, OURS = "worker: LLaMA-Factory's train.tuner", "worker: what it uses of that"
PROGRAMS = {
    THEIRS: _RECORD + "from llamafactory.train.tuner import run_exp\n",
    OURS: _RECORD + "from qwensft_trainer.training import imports\nimports.run_exp({'stage': 'sft'})\n",
    "entrypoint of the train stage": "import qwensft_trainer.cli, qwensft_trainer.stages.train\n",
    "torch alone": "import torch\n",
    "Python alone": "",
}
# Printed by each program in the end: CPU seconds, peak memory in MiB, modules.
_MEASURE = """
import json as j, resource as r, sys as s
u = r.getrusage(r.RUSAGE_SELF)
print(j.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss / 1024, len(s.modules)]))
"""


@dataclass(frozen=True)
class Run:
    """One process: seconds until it has ended, CPU seconds, peak memory in MiB, modules that it had imported."""

    seconds: float
    cpu: float
    memory: float
    modules: int


def measure(python: str, program: str) -> Run:
    """Run a program in a process of its own."""
    code = f"import time as t; b = t.monotonic()\n{program}e = t.monotonic() - b\n{_MEASURE}print(e)"
    environment = os.environ | {"PYTHONPATH": str(TRAINER), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    ran = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *_, figures, seconds = ran.stdout.splitlines()
    cpu, memory, modules = json.loads(figures)
    return Run(float(seconds), cpu, memory, modules)


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """The medians as Markdown, and the ratio of the worker's imports, round by round."""
    lines = ["| imports | s | CPU s | peak MiB | modules |", "|---|---|---|---|---|"]
    for name, found in runs.items():
        cpu, memory = median(run.cpu for run in found), median(run.memory for run in found)
        lines.append(
            f"| {name} | {median(run.seconds for run in found):.2f} | {cpu:.2f} | {memory:.0f} | {found[0].modules} |"
        )
    pairs = list(zip(runs[OURS], runs[THEIRS], strict=True))
    seconds = median(ours.seconds / theirs.seconds for ours, theirs in pairs)
    cpu = median(ours.cpu / theirs.cpu for ours, theirs in pairs)
    lines += ["", f"Worker: {seconds:.2f} of the time, {cpu:.2f} of the CPU time (medians of {len(pairs)} rounds)."]
    return "\n".join(lines)


def main() -> None:
    """Measure all programs in turns, once to fill the page cache and then round by round; print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--python", default=sys.executable, help="with the libraries of the trainer's image")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {name: [] for name in PROGRAMS}
    for number in range(options.rounds + 1):
        for name, program in PROGRAMS.items():
            run = measure(options.python, program)
            if number:
                runs[name].append(run)
    print(table(runs))


if __name__ == "__main__":
    main()
