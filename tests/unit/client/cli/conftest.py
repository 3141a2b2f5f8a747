"""The command line in this process: what it prints, and its exit code."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from qwensft.api.v1alpha1 import QwenSFTJob, parse_job
from qwensft.cli.main import run

REPOSITORY = Path(__file__).parents[4]
RECORDED = REPOSITORY / "gitops" / "argocd" / "resource_customizations" / "qwensft.io" / "QwenSFTJob" / "testdata"
STATES = sorted(path.stem for path in RECORDED.glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 11, 30, 3, 14, 0, tzinfo=UTC)  # a minute or two after the recording


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QWENSFT_DEBUG", raising=False)

    def call(*arguments: str) -> Ended:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(code, captured.out, captured.err)

    return call


def recorded(state: str) -> QwenSFTJob:
    """A job as an API server held it. It may have fields that this version does not know: some are recorded so."""
    document = yaml.safe_load((RECORDED / f"{state}.yaml").read_text())
    document["spec"].pop("curriculum", None)
    return parse_job(document, rules=False)


def check_golden(name: str, text: str) -> None:
    """Compare a text with its golden file; UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert f"{text}\n" == path.read_text(encoding="utf-8")
