"""What kubectl is told of words that may follow."""

from __future__ import annotations

import pytest

from qwensft.cli import cluster
from qwensft.cli.completing import answers


def test_commands_are_completed() -> None:
    assert answers(["s"]) == ["submit", "status", "suspend", ":4"]
    assert "why" in answers([])


def test_options_are_those_of_the_command() -> None:
    found = answers(["-n", "team", "logs", "--f"])
    assert found == ["--follow", ":4"]


def test_names_of_runs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "connect", lambda *_: 1 / 0)
    assert answers(["status", "de"]) == [":4"], "without a cluster there are none"


def test_files_are_left_to_the_shell() -> None:
    assert answers(["check", "jo"]) == [":0"]
