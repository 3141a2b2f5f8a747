"""Runs torchrun as a child process: its command line, its output, and SIGTERM held back while workers save.

What the child's end means is decided in stages/train.py and failures.py.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import Interrupted, invalid_config
from qwensft_trainer.training.output import Output, printed
from qwensft_trainer.training.peers import Peers
from qwensft_trainer.training.stalls import Stall, Watch

_LOOK_EVERY_SECONDS = 2.0
_OTHERS_SECONDS = 15.0  # until all pods of a gang have noticed that it stands still, and shown their stacks
_STOP_SECONDS = 10.0  # workers die of SIGTERM at once, unless the kernel holds them


@dataclass(frozen=True)
class Gang:
    """This node's place among the nodes, and its pod's UID, from the environment the operator sets."""

    nodes: int
    node_rank: int
    processes_per_node: int
    master_address: str
    master_port: int
    pod_uid: str
    stall_timeout: float = 0.0  # seconds without a step after which training is given up; 0: never

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Gang:
        """Read NNODES, NODE_RANK, NPROC_PER_NODE, MASTER_ADDR, MASTER_PORT and QWENSFT_STALL_TIMEOUT_SECONDS.

        A lone process needs none of them. Operators of earlier versions do not tell the pod's UID: any name that no
        other pod has will do.
        """
        try:
            return cls(
                nodes=int(environment.get("NNODES", "1")),
                node_rank=int(environment.get("NODE_RANK", "0")),
                processes_per_node=int(environment.get("NPROC_PER_NODE", "1")),
                master_address=environment.get("MASTER_ADDR", "localhost"),
                master_port=int(environment.get("MASTER_PORT", "29500")),
                pod_uid=environment.get("QWENSFT_POD_UID") or str(uuid.uuid4()),
                stall_timeout=float(environment.get("QWENSFT_STALL_TIMEOUT_SECONDS", "0")),
            )
        except ValueError as error:
            raise invalid_config(
                "NNODES, NODE_RANK, NPROC_PER_NODE, MASTER_PORT and QWENSFT_STALL_TIMEOUT_SECONDS must be numbers: "
                f"{error}"
            ) from error

    @property
    def leads(self) -> bool:
        """Whether this is node rank 0, which decides and records for all."""
        return self.node_rank == 0

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.nodes * self.processes_per_node

    def command(self, arguments: Path) -> list[str]:
        """The torchrun call, with the flags of the Qwen documentation's multi-node example."""
        return [
            "torchrun",
            *("--nproc_per_node", str(self.processes_per_node)),
            *("--nnodes", str(self.nodes)),
            *("--node_rank", str(self.node_rank)),
            *("--master_addr", self.master_address),
            *("--master_port", str(self.master_port)),
            *("-m", "qwensft_trainer.training.worker", str(arguments)),
        ]


@dataclass(frozen=True)
class End:
    """torchrun's exit code, what is left of the output, and why it was ended from here: a lost peer, or a stall."""

    exit_code: int
    output: Output
    lost_peer: str | None = None
    stall: Stall | None = None


class StopRequest:
    """What SIGTERM does: before torchrun runs it ends the stage, later it only asks the workers to save and stop.

    As long as the workers have not left `begun_file`, no step is done and nothing can be saved: then they are ended.
    Once they have ended, what they leave is recorded all the same.
    """

    def __init__(self, drain_flag: Path, begun_file: Path, on_request: Callable[[], None]) -> None:
        self.requested = False
        self._training = self._trained = False
        self._drain_flag = drain_flag
        self._begun_file = begun_file
        self._on_request = on_request

    def is_in_vain(self) -> bool:
        """Whether the workers were asked to stop before there was anything to save."""
        return self.requested and not self._begun_file.exists()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Install the handler for the duration of the block."""
        previous = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    @contextmanager
    def while_training(self) -> Iterator[None]:
        """There are workers for the duration of the block."""
        self._training = True
        try:
            yield
        finally:
            self._trained = True

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._trained:
            log("SIGTERM: the workers have ended already; this pod does, too, once that is recorded")
            return
        if not self._training:
            raise Interrupted("Stopped by SIGTERM before training began; nothing was lost.")
        self._drain_flag.touch()
        self._on_request()


def run(
    command: list[str],
    stop: StopRequest,
    peers: Peers,
    watch: Watch,
    *,
    on_stall: Callable[[], None] = lambda: None,
    gives_up: Callable[[], bool] = lambda: False,
) -> End:
    """Run to the end. The child has a session of its own, so a signal to our process group cannot reach the workers.

    A gang that is asked to stop but has lost a pod cannot save together: then the child is ended at once. So it is when
    no step is done: raises Interrupted. One that stands still is ended after `on_stall`; in a gang some seconds later,
    when the other pods have seen it, too. When `gives_up` says so, the child is ended, whatever it does.
    """
    log(f"running: {shlex.join(command)}")
    output = Output()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=os.environ.copy(),
    )
    with stop.while_training():
        return _until_the_end(process, output, stop, peers, watch=watch, on_stall=on_stall, gives_up=gives_up)


def _until_the_end(
    process: subprocess.Popen[str],
    output: Output,
    stop: StopRequest,
    peers: Peers,
    *,
    watch: Watch,
    on_stall: Callable[[], None],
    gives_up: Callable[[], bool],
) -> End:
    relay = threading.Thread(target=_relay, args=(process.stdout or io.StringIO(), output), name="relay", daemon=True)
    relay.start()
    lost_peer, stall = None, None
    while (exit_code := _wait(process, _LOOK_EVERY_SECONDS)) is None:
        if stop.is_in_vain():
            _stop(process)
            raise Interrupted("Stopped by SIGTERM before the first step; nothing was lost.")
        if stop.requested and (lost_peer := peers.gone()) is not None:
            log(f"{lost_peer} is gone: no checkpoint can be saved together any more; stopping the workers")
            exit_code = _stop(process)
            break
        if gives_up():
            exit_code = _stop(process)
            break
        if (stall := watch.stalled()) is not None:
            log(f"no step for {stall.seconds:.0f} s after step {stall.step}: stopping the workers")
            on_stall()
            time.sleep(_OTHERS_SECONDS if peers.names else 0)
            exit_code = _stop(process)
            break
    relay.join(timeout=10)
    return End(exit_code, output, lost_peer, stall)


def _stop(process: subprocess.Popen[str]) -> int:
    """End torchrun and, through it, its workers. Left alone, it would wait minutes for the torchrun of other nodes."""
    process.terminate()
    exit_code = _wait(process, _STOP_SECONDS)
    if exit_code is None:
        process.kill()
        exit_code = process.wait()
    return exit_code


def _wait(process: subprocess.Popen[str], seconds: float) -> int | None:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


def _relay(stream: IO[str], output: Output) -> None:
    for line in printed(stream):
        output.add(line)
