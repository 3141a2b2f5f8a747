"""A prepared run, a torchrun that behaves as a test says, and a training for merges."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.merging import adapter, engines, tensor_names
from qwensft_trainer.model import source
from qwensft_trainer.training import manifests, rendezvous

from ..conftest import Scene, safetensors
from ..merging.safetensors import save
from .merges import BASE, QUERY, Call, learns, verifies

TRAINED = """
    os.makedirs(output + "/checkpoint-100")
    open(scratch + "/begun", "w").close()
    state = {"global_step": 100, "max_steps": 100, "epoch": 3.0, "log_history": [{"loss": 4.0}, {"loss": 1.0}]}
    for folder in (output, output + "/checkpoint-100"):
        json.dump(state, open(folder + "/trainer_state.json", "w"))
    open(output + "/adapter_model.safetensors", "w").write("weights")
"""


@dataclass
class Torchrun:
    """A program called torchrun on PATH; `does` is its body, with `arguments`, `output` and `scratch` at hand."""

    directory: Path

    def does(self, body: str) -> None:
        program = textwrap.dedent("""
            #!{python}
            import json, os, sys, time, yaml
            json.dump(sys.argv[1:], open({calls!r}, "w"))
            path = sys.argv[-1]
            arguments = yaml.safe_load(open(path))
            output, scratch = arguments["output_dir"], os.path.dirname(path)

            def seal(folder):
                sizes = {{name: os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)}}
                json.dump({{"files": sizes}}, open(os.path.join(folder, "qwensft-checkpoint.json"), "w"))

        """).format(python=sys.executable, calls=str(self.directory / "calls"))
        path = self.directory / "torchrun"
        path.write_text(program.lstrip() + textwrap.dedent(body))
        path.chmod(0o755)

    @property
    def called_with(self) -> list[str] | None:
        path = self.directory / "calls"
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Torchrun:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["TMPDIR"] = str(tmp_path / "scratch" / "tmp")
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    os.environ |= {"NNODES": "2", "NODE_RANK": "0", "NPROC_PER_NODE": "4", "MASTER_ADDR": "localhost"}
    monkeypatch.setattr(rendezvous, "wait_for_nodes", lambda *_: None)  # one node is played, not the one that asks it
    fake = Torchrun(directory)
    fake.does(TRAINED)
    return fake


@pytest.fixture
def prepared(scene: Scene) -> Scene:
    workspace.claim(scene.run)
    (scene.run_directory / "data" / "tokenized").mkdir(parents=True)
    (scene.run_directory / "prepare.json").write_text("{}")
    return scene


def experiment(scene: Scene) -> Experiment:
    """What the run of a scene trains."""
    return Experiment.of(scene.run, scene.train, None)


def leave_checkpoint(scene: Scene, attempt: int, step: int) -> Path:
    """A whole checkpoint of 100 steps in all, as an attempt of this run leaves it."""
    folder = scene.run_directory / "train" / str(attempt) / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    record = experiment(scene).document() | {"sealed": True}
    (folder.parent / "attempt.json").write_text(json.dumps(record))
    state = {"global_step": step, "max_steps": 100, "log_history": [{"loss": 4.0}, {"loss": 2.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "adapter_model.safetensors").write_bytes(safetensors({"lora": (2, 2)}))
    manifests.seal(folder)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Call:
    fake = Call()
    monkeypatch.setattr(engines, "call", fake)
    monkeypatch.setattr(tensor_names, "module_names", lambda *_, **__: str)
    verifies(monkeypatch, {"tensors": 3, "kept": 0.9})
    return fake


@pytest.fixture
def trained(scene: Scene) -> Scene:
    workspace.claim(scene.run)
    model = scene.root / "model"
    (model / source.SINGLE).unlink()
    for name, tensors in BASE.items():
        save(model / name, tensors)
    places = {tensor: name for name, tensors in BASE.items() for tensor in tensors}
    (model / source.INDEX).write_text(json.dumps({"metadata": {"total_size": 216}, "weight_map": places}))
    directory = scene.run_directory / "train" / "1"
    module = f"base_model.model.{QUERY.removesuffix('.weight')}"
    matrices = {f"{module}.lora_A.weight": np.ones((1, 6)), f"{module}.lora_B.weight": np.ones((4, 1))}
    save(directory / adapter.WEIGHTS, matrices)
    learns(scene)
    outputs = {"adapter": {"path": "support-1/train/1", "digest": "sha256:1", "sizeBytes": 1}}
    (scene.run_directory / "train.json").write_text(json.dumps({"directory": "train/1", "outputs": outputs}))
    scene.document["merge"] = {"directory": str(scene.run_directory / "merged")}
    return scene
