"""A node for one-pod Jobs: it runs the trainer's command line as a pod would, on volumes that are folders below a root.

LLaMA-Factory alone is stood in for: tokenising, the training processes and the export. Paths are relative to the root,
which is the working directory meanwhile, so that what is written in one folder can be gone on with in another.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.trainer import models

from qwensft_trainer import cli
from qwensft_trainer.merging.engines import Made
from qwensft_trainer.merging.plan import Plan
from qwensft_trainer.stages import merge, prepare

Manifest = dict[str, Any]

DIES_AT, LAST = 60, 100  # steps
# The first attempt dies after its first checkpoint; one that resumes trains to the end.
_TORCHRUN = """
    #!{python}
    import json, os, sys, yaml
    arguments = yaml.safe_load(open(sys.argv[-1]))
    resumed, output = arguments.get("resume_from_checkpoint"), arguments["output_dir"]
    open("trainings", "a").write(f"{{resumed}}\\n")
    ends = resumed or not os.path.exists("dies")
    state = {{"global_step": {last} if ends else {dies}, "max_steps": {last}, "log_history": [{{"loss": 4.0}}]}}
    folder = output + f"/checkpoint-{{state['global_step']}}"
    os.makedirs(folder)
    for place in (folder, output) if ends else (folder,):
        json.dump(state, open(place + "/trainer_state.json", "w"))
        open(place + "/adapter_model.safetensors", "w").write("weights")
    sizes = {{name: os.path.getsize(folder + "/" + name) for name in os.listdir(folder)}}
    json.dump({{"files": sizes}}, open(folder + "/qwensft-checkpoint.json", "w"))
    sys.exit(0 if ends else 1)
"""


@dataclass(frozen=True)
class Ended:
    """What a pod left: its exit code and its termination message."""

    code: int
    message: str


class Node:
    """The machine. Made by `node`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = root / "workspace"

    @property
    def trainings(self) -> list[str]:
        """Each training's checkpoint that it went on from; "None" for one that began anew."""
        written = self.root / "trainings"
        return written.read_text(encoding="utf-8").splitlines() if written.exists() else []

    def next_training(self, *, dies: bool) -> None:
        """Have the first attempt of what is trained from now on die after a checkpoint, or not."""
        if dies:
            (self.root / "dies").touch()
        else:
            (self.root / "dies").unlink(missing_ok=True)

    def run(self, job: Manifest, files: Mapping[str, str]) -> Ended:
        """Run a Job's one pod to its end, with the files of its ConfigMap."""
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        (mounted := self.root / "etc" / name).mkdir(parents=True)
        for file, text in files.items():
            (mounted / file).write_text(yaml.safe_dump(_local(yaml.safe_load(text))), encoding="utf-8")
        (scratch := self.root / "scratch" / name).mkdir(parents=True)
        report = scratch / "termination-log"
        arguments = [
            *container["args"],
            *("--config", str(mounted), "--workspace", "./workspace", "--metrics-port", "0"),
            *("--scratch", str(scratch), "--termination-log", str(report)),
        ]
        with pytest.MonkeyPatch.context() as patch:
            for variable in container["env"]:
                patch.setenv(variable["name"], variable.get("value", "0"))  # the node rank comes from an annotation
            patch.setenv("MASTER_ADDR", "localhost")
            patch.chdir(self.root)
            return Ended(cli.main(arguments), report.read_text(encoding="utf-8"))


def _local(value: Any) -> Any:
    """Paths of a pod as paths below the root."""
    if isinstance(value, dict):
        return {key: _local(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_local(inner) for inner in value]
    in_pod = isinstance(value, str) and value.startswith(("/workspace", "/model", "/datasets"))
    return f".{value}" if in_pod else value


@contextmanager
def node(root: Path) -> Iterator[Node]:
    """A node below an empty directory, with a model, rows and an empty workspace on it."""
    models.write(root / "model", "qwen3")
    (rows := root / "datasets" / "facts").mkdir(parents=True)
    (rows / "f.json").write_text(json.dumps([{"instruction": "Hi", "output": "Hello"}]), encoding="utf-8")
    # When a file was changed is part of what a run is told by; a record's must be today's, too.
    os.utime(rows / "f.json", (1_700_000_000, 1_700_000_000))
    (root / "workspace").mkdir()
    program = root / "bin" / "torchrun"
    program.parent.mkdir()
    text = textwrap.dedent(_TORCHRUN).lstrip().format(python=sys.executable, dies=DIES_AT, last=LAST)
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)

    def tokenise(_stage: Any, run: Any, *_: Any) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        run.tokenized_directory.mkdir(parents=True)
        (run.tokenized_directory / "rows.json").write_text("[[1, 2, 3]]", encoding="utf-8")
        return {"samples": 1, "tokens": 12}, [], {}

    def make(*_: Any, directory: Path, **__: Any) -> Made:
        (directory / "model.safetensors").write_text("merged weights", encoding="utf-8")
        return Made("streaming", Plan(shards=()), {})

    mask = os.umask(0o022)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in (prepare, merge):
                patch.setattr(module, "forbid_hub_access", lambda: None)
            patch.setattr(prepare, "tokenise", tokenise)
            patch.setattr("qwensft_trainer.merging.engines.make", make)
            patch.setattr(merge, "_verify", lambda *_, **__: {"tensors": 1})
            patch.setattr(os, "environ", os.environ.copy())
            os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
            yield Node(root)
    finally:
        os.umask(mask)
