"""A real MLflow server for the time of a test: a process on this machine, which pods reach by an address of it."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.control_plane.plane import free_port
from benchmarks.control_plane.programs import Program

_PATIENCE = 600.0  # seconds; it imports much and makes its tables first: half a minute where nothing else is done


@contextmanager
def serving(program: Path, address: str, directory: Path) -> Iterator[str]:
    """Give the URL of a server with an empty store below a directory.

    Args:
        program: MLflow's command, as `hack/mlflow` prints it.
        address: The one to listen at. MLflow answers nobody who calls it by another name.
        directory: For its files; ends are told with what it has logged there.
    """
    authority = f"{address}:{free_port()}"
    command: list[str | Path] = [
        program, "server", "--host", address, "--port", authority.rpartition(":")[2], "--allowed-hosts", authority,
        "--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db",
        "--artifacts-destination", directory / "artifacts",
    ]  # fmt: skip
    # Its jobs are for evaluations and traces: seven processes more.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with Program("MLflow", command, directory / "mlflow.log", environment) as server:
        _wait(server, f"http://{authority}/health")
        yield f"http://{authority}"


def _wait(server: Program, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        server.check()
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - made above
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise SystemExit(f"MLflow does not answer:\n{server.log.read_text()[-4000:]}")
