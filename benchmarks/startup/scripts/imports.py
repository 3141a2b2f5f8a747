"""What a training's processes import, each program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_RECORD = "from torch.distributed.elastic.multiprocessing.errors import record\n"
PROGRAMS = {
    "worker: LLaMA-Factory's train.tuner": _RECORD + "from llamafactory.train.tuner import run_exp\n",
    "worker: what it uses of that": _RECORD
    + "from qwensft_trainer.training import imports\nimports.run_exp({'stage': 'sft'})\n",
    "entrypoint of the train stage": "import qwensft_trainer.cli, qwensft_trainer.stages.train\n",
    "torch alone": "import torch\n",
    "Python alone": "",
}
# Printed by each program in the end.
_MEASURE = """
import json as j, resource as r, sys as s
u = r.getrusage(r.RUSAGE_SELF)
print(j.dumps({"seconds": e, "cpu": u.ru_utime + u.ru_stime, "memory": u.ru_maxrss / 1024, "modules": len(s.modules)}))
"""


def measure(program: str) -> dict[str, Any]:
    """Seconds, CPU seconds, peak memory in MiB and modules of one import."""
    code = f"import time as t; b = t.monotonic()\n{PROGRAMS[program]}e = t.monotonic() - b\n{_MEASURE}"
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found
