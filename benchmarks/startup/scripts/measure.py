"""Runs where the trainer's libraries are: measures starts, attempts, preparations and steps, in turns, round by round.

Usage: measure.py INPUTS DIRECTORY ROUNDS PART...; INPUTS is what inputs.py of the benchmark has made. Every round is a
line of JSON, so that one that is cut short still tells what it had. The first round fills the page cache and does not
count. ../README.md says what is measured.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
import imports  # type: ignore[import-not-found]  # beside it, in the pod, too
from trees import Tree  # type: ignore[import-not-found]

STEPS, WARM_UP, BETWEEN = 160, 20, 10
CACHES = ("triton", "torchinductor", "torch_extensions")
Round = dict[str, Any]


class Place:
    """A directory with model, rows and configurations, as the stages find them in a pod."""

    def __init__(self, root: Path, inputs: dict[str, Any]) -> None:
        self.root = root
        shutil.rmtree(root, ignore_errors=True)
        for name, files in inputs["configurations"].items():
            (root / name).mkdir(parents=True)
            for file, content in files.items():
                (root / name / file).write_text(yaml.safe_dump(content, sort_keys=False))
        rows = root / inputs["rows"]["path"]
        rows.parent.mkdir(parents=True)
        rows.write_text(json.dumps(inputs["rows"]["rows"]))
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(inputs["before"]))) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Debian bookworm's Python 3.11.2
            archive.extractall(root / "code-before")  # noqa: S202 - of this repository
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(root / "code-before")], check=True)
        subprocess.run([sys.executable, inputs["makeModel"], str(root / "model")], check=True, stdout=sys.stderr)
        self.run = root / "workspace" / "run"
        self.arguments: dict[str, Any] = inputs["configurations"]["present"]["train.yaml"]

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.root / "logs" / f"{name}.log"

    def emptied(self, name: str) -> Path:
        """A directory without anything in it."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def prepare(self, version: str) -> tuple[float, float]:
        """The prepare stage of this version, or of the one before, on an empty volume; wall and CPU seconds."""
        self.emptied("workspace")
        environment = {"PYTHONPATH": str(self.root / "code-before")} if version == "before" else {}
        command = stage("prepare", self.root / version, self.root, self.emptied("scratch"))
        found: tuple[float, float] = Tree(command, self.log(f"prepare-{version}"), environment).finish()
        return found

    def configured(self, **changes: Any) -> Path:
        """The training's configuration with some arguments changed."""
        folder = self.emptied("changed")
        shutil.copy(self.root / "present" / "run.yaml", folder)
        (folder / "train.yaml").write_text(yaml.safe_dump(self.arguments | changes, sort_keys=False))
        return folder


class Training:
    """One training in processes: the trainer's own, or the bare command; all nodes of it on this machine."""

    def __init__(self, place: Place, trees: list[Tree], output: Path, *, metrics: int | None = None) -> None:
        self._place, self.trees, self.output, self._metrics = place, trees, output, metrics

    def lines(self) -> int:
        """Lines that the training has logged."""
        path = self.output / "trainer_log.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def until(self, reached: Callable[[], bool]) -> Round:
        """Wall and CPU seconds of all nodes until something is so."""
        seconds = self.trees[0].until(reached)
        return {"seconds": round(seconds, 3), "cpu": round(sum(tree.cpu() for tree in self.trees), 3)}

    def parts(self) -> dict[str, float]:
        """What node rank 0 tells of its start; ours alone."""
        with urllib.request.urlopen(f"http://localhost:{self._metrics}/metrics") as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {key.removeprefix("qwensft_train_attempt_"): float(value) for key, value in lines if "_attempt_" in key}


@contextmanager
def ours(place: Place, attempt: int, *, nodes: int = 1, **changes: Any) -> Iterator[Training]:
    """The train stage, once for each node, on what is prepared."""
    configuration = place.configured(**changes)
    master, metrics = free_port(), free_port()
    common = own_environment() | {
        "NNODES": str(nodes), "NPROC_PER_NODE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(master),
        "QWENSFT_ATTEMPT": str(attempt),
    }  # fmt: skip
    with ExitStack() as ended:
        trees = []
        for node in range(nodes):
            scratch = place.emptied(f"scratch-{node}")
            command = [*stage("train", configuration, place.root, scratch), "--metrics-port", str(metrics)]
            own = common | {"NODE_RANK": str(node), "QWENSFT_POD_UID": f"pod-{attempt}-{node}-{os.urandom(4).hex()}"}
            trees.append(Tree(command, place.log(f"ours-{node}"), own))
            ended.callback(trees[-1].end)
        yield Training(place, trees, place.run / "train" / str(attempt), metrics=metrics)


@contextmanager
def bare(place: Place, *, nodes: int = 1, **changes: Any) -> Iterator[Training]:
    """The command of the Qwen documentation, with the same arguments on the same tokenised rows."""
    output, home, path = place.root / "bare", place.emptied("home"), place.root / "bare.yaml"
    shutil.rmtree(output, ignore_errors=True)
    arguments = place.arguments | changes | {"output_dir": str(output), "overwrite_output_dir": True}
    path.write_text(yaml.safe_dump(arguments))
    environment = own_environment() | {"HOME": str(home), "USER": "bare"}
    port = free_port()
    with ExitStack() as ended:
        trees = []
        for node in range(nodes):
            gang = ["--nnodes", str(nodes), "--node_rank", str(node), "--master_addr", "localhost"]
            command = ["torchrun", "--nproc_per_node", "1", *gang, "--master_port", str(port)]
            command += ["-m", "llamafactory.launcher", str(path)]
            trees.append(Tree(command, place.log(f"bare-{node}"), environment))
            ended.callback(trees[-1].end)
        yield Training(place, trees, output)


def start(place: Place, nodes: int) -> Round:
    """Both until the first step is logged."""
    found = {}
    with bare(place, nodes=nodes, logging_steps=1) as training:
        found["bare"] = training.until(lambda: training.lines() > 0)
    emptied_run(place)
    with ours(place, 1, nodes=nodes, logging_steps=1) as training:
        found["ours"] = training.until(lambda: training.lines() > 0) | {"parts": training.parts()}
    return found


def attempts(place: Place) -> Round:
    """A first attempt that is killed after a checkpoint, and a second one that goes on from there."""
    emptied_run(place)
    found = {}
    with ours(place, 1, logging_steps=1, save_steps=2) as training:
        found["first"] = training.until(lambda: training.lines() > 0) | {"parts": training.parts()}
        sealed = training.output / "checkpoint-2" / "qwensft-checkpoint.json"
        training.until(sealed.exists)
        found["first"]["compiled"] = compiled(place)
    # The second one takes over the lines up to the newest checkpoint, one a step.
    taken = max(int(path.parent.name.rpartition("-")[2]) for path in sealed.parent.parent.glob(f"*/{sealed.name}"))
    with ours(place, 2, logging_steps=1, save_steps=2) as training:
        found["second"] = training.until(lambda: training.lines() > taken) | {"parts": training.parts()}
        found["second"]["compiled"] = compiled(place)
    return found


def preparations(place: Place) -> Round:
    """The stage on an empty volume, as it was and as it is."""
    found = {}
    for version in ("before", "present"):
        seconds, cpu = place.prepare(version)
        found[version] = {"seconds": round(seconds, 3), "cpu": round(cpu, 3)}
    return found


def steps(place: Place) -> Round:
    """Seconds and CPU seconds for a step, of both, once they are warm."""
    changes = {"logging_steps": BETWEEN, "max_steps": STEPS, "save_steps": STEPS * 2}
    found = {}
    emptied_run(place)
    for name, training in (("bare", bare(place, **changes)), ("ours", ours(place, 1, **changes))):
        with training as running:
            warm = running.until(partial(_has_logged, running, WARM_UP // BETWEEN))
            done = running.until(partial(_has_logged, running, STEPS // BETWEEN - 1))
        count = STEPS - BETWEEN - WARM_UP
        found[name] = {key: (done[key] - warm[key]) / count for key in ("seconds", "cpu")}
    return found


def _has_logged(training: Training, lines: int) -> bool:
    return training.lines() >= lines


def compiled(place: Place) -> list[str]:
    """What compilers have left in the caches of node rank 0."""
    scratch = place.root / "scratch-0"
    files = (path for cache in CACHES for path in (scratch / cache).rglob("*") if path.is_file())
    return sorted(str(path.relative_to(scratch)) for path in files)


def emptied_run(place: Place) -> None:
    """The run as prepare has left it."""
    shutil.rmtree(place.run / "train", ignore_errors=True)
    (place.run / "train.json").unlink(missing_ok=True)


def stage(name: str, configuration: Path, root: Path, scratch: Path) -> list[str]:
    """The command of a stage, with a pod's paths below `root`."""
    return [
        *(sys.executable, "-m", "qwensft_trainer.cli", name),
        *("--config", str(configuration), "--workspace", str(root / "workspace"), "--scratch", str(scratch)),
        *("--termination-log", str(scratch / "termination-log")),
    ]


def own_environment() -> dict[str, str]:
    """For both sides: one thread, no look at other networks."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


def main() -> None:
    """Measure the parts that are asked for."""
    inputs, root, rounds, *parts = sys.argv[1:]
    # The image has byte code of all modules; anywhere else the first round leaves it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    place = Place(Path(root), json.loads(Path(inputs).read_text()))
    place.prepare("present")
    measured: dict[str, Callable[[], Round]] = {
        "imports": lambda: {program: imports.measure(program) for program in imports.PROGRAMS},
        "prepare": lambda: preparations(place),
        "start": lambda: start(place, 1),
        "gang": lambda: start(place, 2),
        "attempts": lambda: attempts(place),
        "steps": lambda: steps(place),
    }
    for part in parts:
        for number in range(int(rounds) + 1):
            found = measured[part]()
            if number:
                print(json.dumps({"part": part, "found": found}), flush=True)


if __name__ == "__main__":
    main()
