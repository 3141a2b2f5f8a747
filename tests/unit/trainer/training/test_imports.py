"""A worker imports of LLaMA-Factory what it uses; everything else is there when it is called for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("dpo", "kto", "ppo", "pt", "rm")
TUNER = "".join(f"from .{method} import run_{method}\n" for method in METHODS) + (
    "from .sft import run_sft\ndef run_exp(args, callbacks=None):\n    return run_sft(args)\n"
)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A llamafactory of the same shape as the real one, in which each module says when it is imported."""
    files = {
        "llamafactory/__init__.py": "",
        "llamafactory/extras/__init__.py": "",
        "llamafactory/extras/ploting.py": "print('ploting')\ndef plot_loss(*a, **k): print(a, k)\n",
        "llamafactory/train/__init__.py": "",
        "llamafactory/train/tuner.py": TUNER,
        "llamafactory/train/sft/__init__.py": "from .workflow import run_sft\n",
        "llamafactory/train/sft/workflow.py": "from ...extras.ploting import plot_loss\n"
        "def run_sft(args): return plot_loss('there', keys=['loss'])\n",
        "bitsandbytes.py": "print('bitsandbytes')\n",
    }
    for method in METHODS:
        files[f"llamafactory/train/{method}/__init__.py"] = f"print('{method}')\ndef run_{method}(): pass\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def printed(packages: Path, program: str) -> list[str]:
    """What a new Python prints that runs the program."""
    path = f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    begin = "from qwensft_trainer.training import imports\n"
    command = [sys.executable, "-c", begin + program]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_only_the_workflow_in_use_is_imported(packages: Path) -> None:
    assert printed(packages, "imports.run_exp({'stage': 'sft'})") == []


def test_the_plot_is_drawn_by_the_real_module(packages: Path) -> None:
    said = printed(packages, "imports.run_exp({'stage': 'sft'})({})")
    assert said == ["ploting", "('there',) {'keys': ['loss']}"]


def test_another_stage_gets_all_of_it(packages: Path) -> None:
    assert printed(packages, "imports.run_exp({'stage': 'dpo'})") == [*METHODS]


def test_an_image_with_a_package_on_bitsandbytes_keeps_it(packages: Path) -> None:
    (packages / "galore_torch.py").write_text("import bitsandbytes\n")
    assert printed(packages, "imports.run_exp({'stage': 'sft'})\nimport galore_torch") == ["bitsandbytes"]


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        ({"stage": "sft"}, False),
        ({"stage": "sft", "optim": "adamw_torch"}, False),
        ({"stage": "sft", "quantization_bit": 4}, True),
        ({"stage": "sft", "optim": "paged_adamw_8bit"}, True),
        ({"stage": "sft", "optim": "adamw_bnb_8bit"}, True),
    ],
)
def test_bitsandbytes_is_there_only_for_what_needs_it(
    packages: Path, arguments: dict[str, object], imported: bool
) -> None:
    program = f"imports.run_exp({arguments!r})\ntry:\n    import bitsandbytes\nexcept ImportError:\n    pass\n"
    assert printed(packages, program) == (["bitsandbytes"] if imported else [])


@pytest.mark.parametrize("text_config", [False, True])
def test_bitsandbytes_is_there_for_a_base_whose_files_are_quantised(packages: Path, text_config: bool) -> None:
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (packages / "config.json").write_text(json.dumps({"text_config": quantised} if text_config else quantised))
    arguments = {"stage": "sft", "model_name_or_path": str(packages)}
    assert printed(packages, f"imports.run_exp({arguments!r})\nimport bitsandbytes") == ["bitsandbytes"]
