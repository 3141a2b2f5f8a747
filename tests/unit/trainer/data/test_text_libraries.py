"""Encoding texts imports its libraries without what they import for other purposes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "datasets.py": "",
    "torch/__init__.py": "import importlib\ndef __getattr__(name): return importlib.import_module('torch.' + name)\n",
    "torch/_dynamo/__init__.py": "print('torch._dynamo')\n",
    "torchvision.py": "print('torchvision')\n",
    "bitsandbytes.py": "print('bitsandbytes')\n",
    "peft/__init__.py": "print('peft')\nclass PeftModel: pass\n",
    "peft/utils.py": "WEIGHTS_NAME = 'adapter_model.bin'\n",
    "llamafactory/__init__.py": "",
    "llamafactory/data.py": "from peft import PeftModel\nclass Collator:\n    model: 'PeftModel | None'\n",
    "llamafactory/hparams.py": "from peft.utils import WEIGHTS_NAME\nNAMES = {WEIGHTS_NAME}\n",
    "llamafactory/model.py": "import importlib.util\nimport torch._dynamo\n"
    "HAS_VISION = importlib.util.find_spec('torchvision') is not None\n"
    "@torch._dynamo.disable\ndef one(): return 1\n"
    "@torch._dynamo.disable(recursive=True)\ndef two(): return 2\n",
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Libraries that import each other as the real ones do, and say so."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def printed(packages: Path, program: str) -> str:
    """What a new Python prints that imports the libraries and then runs the program."""
    path = f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-c", f"import qwensft_trainer.data.text_libraries\n{program}"]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    ).stdout


def test_what_is_not_called_is_not_imported(packages: Path) -> None:
    assert printed(packages, "") == ""


def test_what_the_libraries_define_is_there(packages: Path) -> None:
    program = "from llamafactory import model\nprint(model.one(), model.two(), model.HAS_VISION)"
    assert printed(packages, program).split() == ["1", "2", "False"]


def test_what_tells_of_a_module_itself_is_not_made_up(packages: Path) -> None:
    program = "import peft\nprint(hasattr(peft, '__version__'), peft.LoraConfig is peft.LoraConfig)"
    assert printed(packages, program).split() == ["False", "True"]
