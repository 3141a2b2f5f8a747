"""Waiting for the master's name and for its decision ends in time, with a reason."""

from __future__ import annotations

import math
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import EXIT_RETRYABLE, StageError
from qwensft_trainer.training import rendezvous


def test_a_name_that_resolves_is_not_waited_for() -> None:
    rendezvous.wait_for_name("localhost", 29500, limit=0.0)


def test_a_name_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [socket.gaierror(), socket.gaierror(), [("address",)]]

    def resolve(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.01)
    rendezvous.wait_for_name("support-train-1-0.support-train", 29500, limit=5)
    assert not answers


def test_a_name_that_never_resolves_ends_in_a_rendezvous_timeout() -> None:
    with pytest.raises(StageError) as caught:
        rendezvous.wait_for_name("support-train-1-0.support-train.invalid", 29500, limit=0.05)
    assert (caught.value.reason, caught.value.exit_code) == ("RendezvousTimeout", EXIT_RETRYABLE)
    assert "support-train-1-0" in caught.value.message
    assert "headless Service" in caught.value.message


def test_a_gang_is_waited_for_without_a_limit_once_dns_knows_this_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[str, float]] = []
    monkeypatch.setattr(
        rendezvous, "wait_for_name", lambda name, _, limit=rendezvous.LIMIT_SECONDS: waited.append((name, limit))
    )
    rendezvous.wait_for_gang(["pod-0", "pod-1"], 1, 29500)
    assert waited == [("pod-1", rendezvous.LIMIT_SECONDS), ("pod-0", math.inf), ("pod-1", math.inf)]


def test_the_decision_of_node_rank_0_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.01)
    path = tmp_path / "train" / "2" / "attempt.json"
    threading.Timer(0.1, files.write_json, (path, {"ownerUid": "a", "resumeFrom": "x"})).start()
    assert rendezvous.wait_for_decision(path, "a", limit=10) == {"ownerUid": "a", "resumeFrom": "x"}


def test_the_decision_of_an_earlier_owner_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "attempt.json"
    files.write_json(path, {"ownerUid": "a", "resumeFrom": "train/1/checkpoint-8"})
    with pytest.raises(StageError):
        rendezvous.wait_for_decision(path, "b", limit=0.05)


def test_a_decision_that_never_comes_names_the_shared_volume(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="must be ReadWriteMany"):
        rendezvous.wait_for_decision(tmp_path / "attempt.json", "a", limit=0.05)
