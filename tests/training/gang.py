"""Trainings in real processes: the trainer's own command line once for each node, torchrun, gloo, a tiny model.

One thread for each process and float32, so that the same steps give the same bits.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import load_run
from qwensft_trainer.training import continued
from qwensft_trainer.training.checkpoints import NOT_OUTPUT

from .tiny import write_rows

NODES = 2
SAVE_STEPS = 4
# 24 rows on two ranks, two at a time: 6 steps an epoch, 18 in all; checkpoints at 4, 8, 12, 16 and 18.
STEPS_PER_EPOCH = 6
PROMPT = 5  # tokens of a row that are not learnt, where samples are asked for
LAST_SAVED = 2 * SAVE_STEPS  # when a worker is killed
ARGUMENTS: dict[str, Any] = {
    "template": "qwen3", "flash_attn": "sdpa", "stage": "sft", "do_train": True, "dataset": "rows",
    "cutoff_len": 64, "finetuning_type": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.2,
    "lora_target": "all", "learning_rate": 1.0e-3, "lr_scheduler_type": "cosine", "warmup_steps": 3,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "num_train_epochs": 3.0, "seed": 42,
    "logging_steps": 1, "save_steps": SAVE_STEPS, "save_total_limit": 2, "overwrite_cache": True, "ddp_timeout": 120,
    "include_num_input_tokens_seen": True, "plot_loss": False,
}  # fmt: skip
# As the operator renders spec.distribution.deepspeed.stage: 3, for so small a model.
ZERO: dict[str, Any] = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto", "zero_allow_untested_optimizer": True, "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "zero_optimization": {
        "stage": 3, "overlap_comm": False, "contiguous_gradients": True, "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}  # fmt: skip
SECONDS = 900.0  # most of an attempt is importing


@dataclass
class Training:
    """A run in a directory of its own. `nodes` of it are started, killed and waited for by the test."""

    root: Path
    uid: str = "uid-1"
    zero: bool = False  # all parameters trained, with ZeRO-3, in place of LoRA
    arguments: dict[str, Any] = field(default_factory=dict)  # of LLaMA-Factory, beside those of all
    trained_on: Path | None = None  # another run's result, an adapter, that this one trains on
    samples: int = 0  # asked for; then rows have prompts
    # Where a node finds its configuration, if not where all do.
    configurations: dict[int, Path] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The run's directory on the volume."""
        return self.root / "workspace" / "run"

    def prepared(self, model: Path) -> Training:
        """Write what operator and prepare leave."""
        owner = {"uid": self.uid, "namespace": "team", "name": "run"}
        write_rows(self.directory / "data" / "tokenized", prompt=PROMPT if self.samples else 0)
        (self.directory / ".qwensft-owner.json").write_text(json.dumps(owner))
        (self.directory / "prepare.json").write_text(json.dumps({"template": "qwen3", "contents": "sha256:rows"}))
        (self.root / "etc").mkdir(parents=True)
        document: dict[str, Any] = {
            "version": 1, "owner": owner, "runDirectory": str(self.directory), "tuning": {"method": "lora"},
            "model": {"name": "Qwen/Qwen3-0.6B", "path": str(model)}, "datasets": [], "accelerator": {"count": 0},
        }  # fmt: skip
        if self.samples:
            document["samples"] = {"count": self.samples}
        if self.zero:
            document |= {"tuning": {"method": "full"}, "deepspeed": {"stage": 3, "ranks": NODES}}
            (self.root / "etc" / "deepspeed.json").write_text(json.dumps(ZERO))
        completed = (ARGUMENTS | {"finetuning_type": "full", "deepspeed": str(self.root / "etc" / "deepspeed.json")}
                     if self.zero else ARGUMENTS) | self.arguments | {
            "model_name_or_path": str(model),
            "dataset_dir": str(self.directory / "data"),
            "tokenized_path": str(self.directory / "data" / "tokenized"),
        }  # fmt: skip
        if self.trained_on is not None:
            digest = files.manifest_digest(files.manifest_of(self.trained_on, exclude=NOT_OUTPUT))
            adapter = {"name": "first", "uid": "uid-0", "digest": digest, "path": str(self.trained_on)}
            document |= {"version": 4}
            document["model"]["adapter"] = adapter
            completed |= {"adapter_name_or_path": str(self.directory / "data" / "adapter")}
        (self.root / "etc" / "run.yaml").write_text(yaml.safe_dump(document))
        (self.root / "etc" / "train.yaml").write_text(yaml.safe_dump(completed))
        continued.provide(load_run(self.root / "etc"))
        return self

    @contextmanager
    def attempt(self, number: int) -> Iterator[Gang]:
        """Start both nodes; whatever is left of them is killed at the end."""
        gang = Gang(self, number)
        try:
            yield gang
        finally:
            gang.kill()

    def train(self, attempt: int) -> None:
        """An attempt that nobody disturbs."""
        with self.attempt(attempt) as gang:
            assert gang.wait() == [0, 0], gang.log(0) + gang.log(1)

    def die(self) -> None:
        """The first attempt, whose second worker is killed off a save step in the second epoch."""
        with self.attempt(1) as gang:
            gang.until(lambda: max(self.steps(1), default=0) > LAST_SAVED)
            gang.kill_worker(1)
            assert all(gang.wait())
        assert STEPS_PER_EPOCH < LAST_SAVED < max(self.steps(1)) < LAST_SAVED + SAVE_STEPS

    def steps(self, attempt: int | str) -> list[int]:
        """Steps that an attempt has logged."""
        path = self.directory / "train" / str(attempt) / "trainer_log.jsonl"
        if not path.exists():
            return []
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        return [int(json.loads(line)["current_steps"]) for line in lines if '"loss"' in line]

    def tokens(self, attempt: int | str) -> int:
        """Tokens that have been trained when an attempt ends, those before it included."""
        last = (self.directory / "train" / str(attempt) / "trainer_log.jsonl").read_text().splitlines()[-1]
        return int(json.loads(last)["total_tokens"])

    @property
    def result(self) -> Path:
        """The directory of the trained adapter, or model."""
        return self.directory / str(json.loads((self.directory / "train.json").read_text())["directory"])

    def weights(self) -> bytes:
        """The file of the trained adapter, or model."""
        name = "model.safetensors" if self.zero else "adapter_model.safetensors"
        return Path(self.result, name).read_bytes()


class Gang:
    """The pods of one attempt: a process of the trainer's command line for each node, in sessions of their own."""

    def __init__(
        self, training: Training, attempt: int, *, environment: dict[int, dict[str, str]] | None = None
    ) -> None:
        self.training, self._attempt = training, attempt
        master, metrics = _free_port(), _free_port()
        self.nodes = []
        for rank in range(NODES):
            scratch = training.root / f"scratch-{attempt}-{rank}"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            own = {
                "NNODES": str(NODES), "NODE_RANK": str(rank), "NPROC_PER_NODE": "1", "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(master), "QWENSFT_ATTEMPT": str(attempt), "OMP_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": "",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "QWENSFT_POD_UID": f"pod-{attempt}-{rank}-{os.urandom(4).hex()}",
            }  # fmt: skip
            command = [
                *(sys.executable, "-m", "qwensft_trainer.cli", "train"),
                *("--config", str(training.configurations.get(rank, training.root / "etc"))),
                *("--workspace", str(training.root / "workspace"), "--scratch", str(scratch)),
                *("--termination-log", str(scratch / "termination-log"), "--metrics-port", str(metrics)),
            ]
            log = (scratch / "log").open("wb")
            process = subprocess.Popen(
                command, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self.nodes.append(process)

    def scratch(self, rank: int) -> Path:
        """What the node's entrypoint and its worker share."""
        return self.training.root / f"scratch-{self._attempt}-{rank}"

    def log(self, rank: int) -> str:
        """What the node has printed."""
        return (self.scratch(rank) / "log").read_text(errors="replace")

    def report(self, rank: int) -> dict[str, Any]:
        """The node's termination message."""
        report: dict[str, Any] = json.loads((self.scratch(rank) / "termination-log").read_text())
        return report

    def wait(self) -> list[int]:
        """Exit codes, once all nodes have ended."""
        until = time.monotonic() + SECONDS
        return [node.wait(timeout=max(0.1, until - time.monotonic())) for node in self.nodes]

    def until(self, reached: Callable[[], bool]) -> None:
        """Return as soon as something is so; the nodes must not end before."""
        until = time.monotonic() + SECONDS
        while not reached():
            ended = [rank for rank, node in enumerate(self.nodes) if node.poll() is not None]
            assert not ended, self.log(ended[0])
            assert time.monotonic() < until, self.log(0)
            time.sleep(0.005)

    def kill_worker(self, rank: int) -> None:
        """SIGKILL for the training process of a node, and nothing else of it."""
        os.kill(self._worker(rank), signal.SIGKILL)

    def ask_to_stop(self, rank: int) -> None:
        """SIGTERM, as the kubelet sends it, to the entrypoint."""
        self.nodes[rank].terminate()

    def kill(self) -> None:
        """End what still runs: entrypoints, and the sessions of torchrun below them."""
        for rank, node in enumerate(self.nodes):
            if node.poll() is None:
                node.kill()
            for process in _processes(str(self.scratch(rank))):
                os.kill(process, signal.SIGKILL)
            node.wait()

    def _worker(self, rank: int) -> int:
        mark = str(self.scratch(rank) / "train.yaml")
        found = [pid for pid in _processes(mark) if b"--nnodes" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(found) == 1, found
        return found[0]


def _processes(mark: str) -> list[int]:
    """Processes whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])
