"""Memory of accelerators, by the names that people use; for the estimate before a node is known."""

from __future__ import annotations

from typing import Final

from qwensft.api.v1alpha1 import parse_quantity
from qwensft.cli.failures import CommandError

# MiB, as the drivers tell it and the label nvidia.com/gpu.memory has it; AMD's by their data sheets.
MEMORY: Final = {
    "T4": 15_360,
    "L4": 23_034,
    "A10": 23_028,
    "RTX4090": 24_564,
    "A40": 46_068,
    "L40S": 46_068,
    "A100-40": 40_960,
    "A100": 81_920,
    "H100": 81_559,
    "H200": 143_771,
    "B200": 183_359,
    "MI300X": 196_608,
}


def memory_of(gpu: str) -> str:
    """Return the memory of one accelerator as the API writes it: of a name such as H100, or a quantity such as 24Gi.

    Raises:
        CommandError: it is neither.
    """
    name = gpu.upper().replace(" ", "").replace("_", "-")
    for prefix in ("NVIDIA-", "AMD-"):
        name = name.removeprefix(prefix)
    if name in MEMORY:
        return f"{MEMORY[name]}Mi"
    try:
        if parse_quantity(gpu) >= 2**20:
            return gpu
    except ValueError:
        pass
    raise CommandError(f"--gpu {gpu}: name its memory, such as 24Gi, or one of {', '.join(MEMORY)}")


def bytes_of(gpu: str) -> float:
    """Return the same in bytes."""
    return float(parse_quantity(memory_of(gpu)))
