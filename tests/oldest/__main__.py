"""Runs a command with KUBECONFIG pointing at an API server of its own: `python -m tests.oldest COMMAND...`.

Which API server is said by QWENSFT_KUBE_APISERVER; nothing of a cluster runs beside it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.control_plane.plane import BENCH, control_plane


async def _run(command: list[str], directory: Path) -> int:
    async with control_plane(directory) as plane, plane.api() as api:
        version = (await api.get("/version"))["gitVersion"]
        print(f"Kubernetes {version}", flush=True)  # noqa: T201
        environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig(BENCH))}
        done = await asyncio.to_thread(subprocess.run, command, env=environment, check=False)
        return done.returncode


def main() -> None:
    """Run the program."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="qwensft-oldest-") as directory:
        sys.exit(asyncio.run(_run(sys.argv[1:], Path(directory))))


if __name__ == "__main__":
    main()
