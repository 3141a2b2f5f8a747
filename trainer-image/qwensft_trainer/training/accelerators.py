"""Whether this pod has got the accelerators that it was promised, asked beside all else that is to be done first.

A node with a broken driver or the wrong container runtime hands out pods without devices: training would go on for days
on its CPUs, or die in every rank with an error that blames the arguments. What torch sees is printed by
`python -m qwensft_trainer.training.accelerators`.
ADR 0065 says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from dataclasses import asdict, dataclass

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import StageError

MISSING_ADVICE = (
    "Check on that node that the driver works (nvidia-smi) and the device plugin is healthy, that "
    "spec.worker.runtimeClassName names the runtime that hands devices to containers, and that the image's torch is "
    "made for these devices and this driver (spec.worker.image)."
)

ANSWER_SECONDS = 300  # importing torch from a cold disk takes a minute; a wedged driver answers never


@dataclass(frozen=True)
class Seen:
    """What torch says: how many devices, its version, the kind it was built for (None: CPUs alone), its warnings."""

    devices: int
    version: str
    kind: str | None
    warnings: list[str]


class Question:
    """Asks torch in the background, since that takes as long as importing it, for as many devices as are needed."""

    def __init__(self, needed: int) -> None:
        self._failure: StageError | None = None
        self._thread = threading.Thread(target=self._ask, args=(needed,), name="accelerators", daemon=True)
        if needed > 0:
            self._thread.start()

    def failure(self) -> StageError | None:
        """AcceleratorMissing once the answer is that there are fewer; None as long as there is no answer."""
        return self._failure

    def check(self) -> None:
        """Raise AcceleratorMissing once that is known: asked again and again by whoever waits for something else."""
        if self._failure is not None:
            raise self._failure

    def answer(self) -> StageError | None:
        """The same, waited for."""
        if self._thread.ident is not None:
            self._thread.join()
        return self._failure

    def _ask(self, needed: int) -> None:
        try:
            require(needed)
        except StageError as error:
            self._failure = error


def require(needed: int) -> None:
    """Raise StageError AcceleratorMissing when torch sees fewer devices than this pod's `needed` processes take.

    Not a permanent error: the next attempt may come to a better node.
    """
    seen = _ask()
    if seen is None or seen.devices >= needed:
        return
    some = f"only {seen.devices}" if seen.devices else "none"
    made_for = f"torch {seen.version}, made for {seen.kind or 'CPUs only'}"
    words = f", says: {' '.join(seen.warnings)}" if seen.warnings else ""
    raise StageError(
        "AcceleratorMissing",
        f"the pod sees {some} of the {needed} accelerators that its processes need ({made_for}{words:.700}). "
        f"{MISSING_ADVICE}",
    )


def _ask() -> Seen | None:
    """Ask torch in a process of its own, as importing it takes memory and initialising CUDA cannot be undone.

    None when that process fails: whatever is wrong with torch, the workers' own end tells it better.
    """
    command = [sys.executable, "-m", "qwensft_trainer.training.accelerators"]
    try:
        answer = subprocess.run(
            command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
        return Seen(**json.loads(answer.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired as error:
        raise StageError(
            "AcceleratorMissing",
            f"the driver did not tell within {ANSWER_SECONDS} s which accelerators the pod has. {MISSING_ADVICE}",
        ) from error
    except (subprocess.CalledProcessError, IndexError, ValueError, TypeError) as error:
        log(f"torch could not be asked for its accelerators: {error} {getattr(error, 'stderr', None) or ''}".rstrip())
        return None


def look() -> Seen:
    """Import torch and count. `is_available` initialises the driver; `device_count` alone only reads a list of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import torch

        kind = torch.accelerator.current_accelerator()
        devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    # The driver's complaints are warnings of torch's; those of other packages are of no use here.
    messages = [str(warning.message) for warning in caught if "initialization" in str(warning.message)]
    return Seen(devices, torch.__version__, kind.type if kind else None, messages)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(look())) + "\n")
