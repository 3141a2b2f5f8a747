"""Runs in the trainer image: what its libraries load, once they are kept from what volumes and hubs may hold.

Prints one JSON document on the last line: "code", whether any way of loading a checkpoint ran its code, and what was
raised; "deepspeed", by stage of ZeRO, whether a training goes on from its checkpoint; "waits", for how many seconds
collective operations wait in each group of ranks, the world first; "videos", by name, the copy's
ending or why the video was refused.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ |= {
    "HOME": tempfile.mkdtemp(),
    "USER": "qwensft",  # torch asks for a name, and the image knows none for its user
    "DS_ACCELERATOR": "cpu",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29777",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
}

import av
import deepspeed
import torch
from PIL import Image

from qwensft_trainer.base import upstream
from qwensft_trainer.data.media import MediaFiles
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem

WAIT = timedelta(seconds=9000)
VIDEOS = (
    *(("clip.mp4", "mpeg4"), ("clip.mkv", "mpeg4"), ("clip.avi", "mpeg4"), ("clip.ts", "mpeg2video")),
    *(("clip.mpg", "mpeg2video"), ("clip.flv", "flv")),  # streams come after the header
)


class Code:
    """Makes a directory when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def code(directory: Path) -> dict[str, str]:
    """Load a checkpoint with code in it in every way."""
    made, file, raised = directory / "made", directory / "state.pt", {}
    torch.save({"state": Code(made)}, file)
    ways: dict[str, dict[str, Any]] = {
        "by default": {},
        "whole": {"weights_only": False},
        "by pickle": {"pickle_module": pickle},
    }
    for way, options in ways.items():
        try:
            torch.load(file, **options)
            raised[way] = "nothing"
        except (pickle.UnpicklingError, RuntimeError) as error:
            raised[way] = type(error).__name__
    return raised | {"ran": str(made.exists())}


def engine(stage: int) -> Any:
    """Two layers under ZeRO, with what a training keeps: optimizer and scheduler."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    config = {"train_batch_size": 1, "zero_optimization": {"stage": stage}, "zero_force_ds_cpu_optimizer": False}
    made, *_ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=scheduler, config=config)
    return made


def step(trained: Any) -> float:
    """Train one step; return the loss before it."""
    loss = trained(torch.ones(1, 8)).square().sum()
    trained.backward(loss)
    trained.step()
    return float(loss.detach())


def zero(stage: int, directory: Path) -> bool:
    """Whether a training goes on from its checkpoint as it went on without one."""
    first = engine(stage)
    step(first)
    first.save_checkpoint(str(directory), tag="step1")
    second = engine(stage)
    loaded, _ = second.load_checkpoint(str(directory), tag="step1")
    return loaded is not None and [step(first), step(first)] == [step(second), step(second)]


def waits() -> list[float]:
    """How long a collective operation waits in every group that there is now."""
    groups = torch.distributed.distributed_c10d._world.pg_map
    backends = [group._get_backend(torch.device("cpu")) for group in groups]
    return [backend.options._timeout.total_seconds() for backend in backends]


def videos(directory: Path) -> dict[str, str]:
    """Copy real videos, a damaged one, a playlist that names one of them, and an address that begins as a video."""
    for name, codec in VIDEOS:
        with av.open(str(directory / name), "w") as container:
            stream = container.add_stream(codec, rate=4)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for colour in 4 * ("red", "blue"):
                container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (32, 32), colour))))
            container.mux(stream.encode())
    (directory / "half.mp4").write_bytes((directory / "clip.mp4").read_bytes()[:40])
    (directory / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{directory / 'clip.mp4'}'\n")
    packets = [line.ljust(188, b"\n") for line in (b"G\nv=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96", b"G", b"G")]
    (directory / "call.ts").write_bytes(b"".join(packets) + b"G")
    files, told = MediaFiles(directory / "media", lambda name: directory / name), {}
    for name in (*(name for name, _ in VIDEOS), "half.mp4", "list.mp4", "call.ts"):
        try:
            _, (kept,) = files.keep(Conversation(messages=[], videos=[name]))
            told[name] = Path(kept).suffix
        except RowProblem as problem:
            told[name] = str(problem)
    return told


def main() -> None:
    """Try all of it."""
    upstream.mend(deepspeed=True, collective_timeout=WAIT)
    deepspeed.init_distributed("gloo", timeout=WAIT)
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        result = {
            "code": code(directory),
            "deepspeed": {str(stage): zero(stage, directory / f"zero{stage}") for stage in (1, 2, 3)},
            "waits": waits(),
            "videos": videos(directory),
        }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
