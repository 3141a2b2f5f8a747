"""A run on a temporary volume: configuration files, a complete-looking base model, and the stage that reads them."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft_trainer.base import redaction
from qwensft_trainer.contract.config import Run, load_run
from qwensft_trainer.contract.stage import StageContext

ALPACA_COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}
SHAREGPT_COLUMNS = {"messages": "conversations", "system": "system", "tools": "tools"}
SEED_TAGS = {  # the tags of the Qwen documentation, whose rows say human and gpt all the same
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


# Reading it gives EIO, as a volume in trouble does: a link to it is a file that is there and cannot be read.
UNREADABLE = Path("/proc/self/mem")


@dataclass
class Scene:
    """Directories of one run, and what its configuration says; change `document` or `train` before using them."""

    root: Path
    document: dict[str, Any]
    train: dict[str, Any]

    @property
    def run_directory(self) -> Path:
        return Path(self.document["runDirectory"])

    @property
    def context(self) -> StageContext:
        self._write("run", self.document)
        self._write("train", self.train)
        return StageContext(
            name="train",
            attempt=1,
            config=self.root / "etc",
            workspace=self.root / "workspace",
            scratch=self.root / "scratch",
            termination_log=self.root / "termination-log",
            metrics_port=0,
        )

    @property
    def arguments(self) -> list[str]:
        """Of the command line, after the stage's name."""
        return [
            *("--config", str(self.root / "etc")),
            *("--workspace", str(self.root / "workspace")),
            *("--scratch", str(self.root / "scratch")),
            *("--termination-log", str(self.root / "termination-log")),
            *("--metrics-port", "0"),
        ]

    def attempt(self, number: int) -> StageContext:
        return replace(self.context, attempt=number)

    @property
    def run(self) -> Run:
        return load_run(self.context.config)

    def add_dataset(
        self, name: str, rows: Any, *, form: str = "alpaca", file_name: str = "data.json", **more: Any
    ) -> Path:
        """Add a dataset; `rows` is written as JSON, or as it is when it is text."""
        path = self.root / "datasets" / name / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        columns = ALPACA_COLUMNS if form == "alpaca" else SHAREGPT_COLUMNS
        entry = {"name": name, "format": form, "path": str(path), "columns": columns, "tags": {}} | more
        self.document["datasets"].append(entry)
        return path

    def _write(self, name: str, values: dict[str, Any]) -> None:
        (self.root / "etc" / f"{name}.yaml").write_text(yaml.safe_dump(values))


TORCH = """
import types, warnings

__version__ = "2.8.0+cu128"

def is_available():
    warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).")
    return {available}

kind = types.SimpleNamespace(type="cuda") if {built} else None
accelerator = types.SimpleNamespace(
    current_accelerator=lambda: kind, is_available=is_available, device_count=lambda: {listed}
)
"""


@dataclass
class Torch:
    """A package torch that Python processes started from now on import."""

    package: Path

    def sees(self, listed: int, *, available: bool = True, built: bool = True) -> None:
        """`listed`: devices in the driver's list. `available`: whether the driver can be initialised."""
        self.contains(TORCH.format(listed=listed, available=available, built=built))

    def contains(self, source: str) -> None:
        """Make `source` the whole package."""
        (self.package / "__init__.py").write_text(source)


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Torch:
    package = tmp_path / "packages" / "torch"
    package.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return Torch(package)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Stages change that of their whole process, and libraries that are imported later read it then."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def hub_access(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages forbid it for their whole process: what one test has forbidden, the next one has again."""
    if (constants := sys.modules.get("huggingface_hub.constants")) is not None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has made known is hidden in that test alone."""
    monkeypatch.setattr(redaction.secrets, "_spellings", set())
    monkeypatch.setattr(redaction.secrets, "_pattern", None)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    for name in ("etc", "workspace", "scratch"):
        (tmp_path / name).mkdir()
    write_model(tmp_path / "model")
    return Scene(
        tmp_path,
        document={
            "owner": {"uid": "uid-1", "namespace": "team", "name": "support"},
            "runDirectory": str(tmp_path / "workspace" / "support-1"),
            "model": {"name": "Qwen/Qwen3-0.6B", "path": str(tmp_path / "model"), "download": None},
            "datasets": [],
            "tuning": {"method": "lora"},
        },
        train={"stage": "sft", "template": "qwen3", "learning_rate": 5e-6, "flash_attn": "auto"},
    )


def write_model(directory: Path) -> None:
    """A model directory that has everything, with a single small tensor."""
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "qwen3"}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(safetensors({"weight": (2, 2)}))


def safetensors(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """A safetensors file of float32 zeros."""
    header: dict[str, Any] = {}
    size = 0
    for name, shape in shapes.items():
        length = 4
        for extent in shape:
            length *= extent
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [size, size + length]}
        size += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)
