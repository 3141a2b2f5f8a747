"""The process environment of a stage: caches on the writable scratch volume, no hub access, threads that fit the limit.

The image's root file system is read-only and the UID arbitrary, so everything that likes to write under HOME or ask
the user database for a name is redirected here, before any heavy library is imported. What is compiled lies there, too,
and ends with the pod: ADR 0144 says why.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path


def prepare_environment(scratch: Path) -> None:
    """Point HOME, temporary files and every cache below `scratch`, and silence telemetry. Idempotent."""
    temporary = scratch / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "HOME": str(scratch),
            "TMPDIR": str(temporary),
            "HF_HOME": str(scratch / "huggingface"),
            "TRITON_CACHE_DIR": str(scratch / "triton"),
            "TORCH_EXTENSIONS_DIR": str(scratch / "torch_extensions"),
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "torchinductor"),
            "MPLCONFIGDIR": str(scratch / "matplotlib"),
            "MODELSCOPE_CACHE": str(scratch / "modelscope"),
            # An arbitrary UID has no entry in the user database; getpass.getuser() then needs a name from here.
            "USER": "qwensft",
            "LOGNAME": "qwensft",
            "MPLBACKEND": "Agg",
            # Merely importing inductor would start a pool of compiler processes, each of which imports torch.
            "TORCHINDUCTOR_COMPILE_THREADS": os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", "1"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TQDM_DISABLE": "1",  # a progress bar is one endless line in a pod's log
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "false"),
        }
    )


def reuse_memory() -> None:
    """Have processes started from now on keep what they free, and take large arrays in huge pages.

    glibc returns arrays of some MiB at once, and to get them back page by page takes longer than what is computed
    there. Arrays of 256 MiB and more are still returned: what is kept of those would be in pieces.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 28))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 36))
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's


WITHOUT_HUBS = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def forbid_hub_access() -> None:
    """Everything is on the volume by now: a lookup at a hub would only hang in a cluster without egress."""
    os.environ.update(WITHOUT_HUBS)
    # Whoever has downloaded before has imported the client already, which reads its environment only then.
    if (constants := sys.modules.get("huggingface_hub.constants")) is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def training_environment(*, processes: int, accelerators: int) -> None:
    """What LLaMA-Factory's launcher sets, and OpenMP threads: torchrun's default of one leaves CPUs idle."""
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("TORCH_NCCL_AVOID_RECORD_STREAMS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_limit() // max(1, processes))))
    if accelerators == 0:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def cpu_limit() -> int:
    """CPUs this container may use: its cgroup quota (v2 or v1), else the processors it may be scheduled on."""
    asked = getattr(os, "sched_getaffinity", None)  # Linux alone has it; rows are judged elsewhere, too
    available = len(asked(0)) if asked else os.cpu_count() or 1
    quota = _quota_v2(Path("/sys/fs/cgroup/cpu.max")) or _quota_v1(Path("/sys/fs/cgroup/cpu"))
    return max(1, min(available, math.ceil(quota))) if quota else available


def _quota_v2(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None


def memory_limit() -> int:
    """Bytes of memory this container may use: its cgroup limit (v2 or v1), else the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(machine, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return machine
