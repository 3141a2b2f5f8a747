"""The command line against the local cluster: real runs, in a namespace of its own, made anew for each session."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import inputs
from quickstart.setup import Ready
from tests.e2e.fixtures import fresh_namespace, ready
from tests.e2e.reporting import pytest_runtest_makereport
from tests.e2e.runs import Runs, merged_with

from qwensft.cli.main import run

__all__ = ["pytest_runtest_makereport", "ready"]
NAMESPACE = "qwensft-cli"


@pytest.fixture(scope="session")
def namespace(ready: Ready) -> Iterator[str]:
    with fresh_namespace(ready, NAMESPACE) as name:
        yield name


@pytest.fixture(scope="session")
def base(namespace: str) -> dict[str, Any]:
    """The quickstart's job on one node: what the tests' jobs differ from."""
    job = yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text())
    job["metadata"]["namespace"] = namespace
    return merged_with(job, {"spec": {"distribution": {"nodes": 1}, "training": {"maxSteps": 40, "saveSteps": 10}}})


@pytest.fixture(scope="session")
def runs(ready: Ready, namespace: str, base: dict[str, Any]) -> Runs:
    return Runs(ready, namespace, base)


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


def typed(cli: Cli, *arguments: str) -> str:
    """A command and what it prints, as the documents show both."""
    return f"$ kubectl qwensft {' '.join(arguments)}\n{cli(*arguments).out}"


@pytest.fixture
def context(kubeconfig: Path, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig whose current context has the tests' namespace: commands need not name it."""
    document = yaml.safe_load(kubeconfig.read_text())
    (current,) = [one for one in document["contexts"] if one["name"] == document["current-context"]]
    current["context"]["namespace"] = namespace
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def cli(context: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command as typed, on a terminal as wide as the documents show."""
    monkeypatch.setenv("KUBECONFIG", str(context))
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str) -> Ended:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def job_file(base: dict[str, Any], tmp_path: Path) -> Callable[[str, dict[str, Any]], str]:
    """Writes a job that differs from the base in its spec; returns the path."""

    def write(name: str, spec: dict[str, Any]) -> str:
        document = merged_with(copy.deepcopy(base), {"metadata": {"name": name}, "spec": spec})
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return str(path)

    return write
