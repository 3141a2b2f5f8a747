"""Logs that are followed: over attempts and stages, and over streams that end, break, or say nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.client.api_server import Answer, PodLog, Request, Server

from qwensft import Client
from qwensft.client import connection, following
from qwensft.client.logs import LogLine

UID = "run-uid"
READER = "reader of logs"


class Played:
    """A run whose pods are played."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.put(ended=False)

    def put(self, *, ended: bool) -> None:
        datasets = [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}]
        spec = {"model": {"name": "m/m"}, "datasets": datasets, "storage": {"volume": {"claimName": "c"}}}
        condition = {"type": "Succeeded", "status": "True" if ended else "Unknown", "reason": "R", "message": ""}
        conditions = [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]
        self.server.put(
            "qwensftjobs",
            {
                "apiVersion": "qwensft.io/v1alpha1",
                "kind": "QwenSFTJob",
                "metadata": {"name": "demo", "uid": UID, "generation": 1},
                "spec": spec,
                "status": {"observedGeneration": 1, "conditions": conditions},
            },
        )

    def pod(self, stage: str, attempt: int = 1, rank: int = 0, *, state: str = "running") -> PodLog:
        name = f"demo-{stage}-{attempt}-{rank}"
        labels = {"qwensft.io/job": "demo", "qwensft.io/job-uid": UID, "qwensft.io/stage": stage}
        labels |= {"qwensft.io/attempt": str(attempt), "batch.kubernetes.io/job-completion-index": str(rank)}
        statuses = [{"name": "trainer", "state": {state: {}}}]
        self.server.put(
            "pods",
            {"metadata": {"name": name, "uid": name, "labels": labels}, "status": {"containerStatuses": statuses}},
        )
        log = self.server.logs.setdefault(name, PodLog())
        log.ended = state == "terminated"
        return log

    def end(self, stage: str, attempt: int = 1, rank: int = 0) -> None:
        self.pod(stage, attempt, rank, state="terminated").end()


@pytest.fixture
def played(server: Server) -> Iterator[Played]:
    played = Played(server)
    yield played
    server.rules.clear()
    server.objects["pods"] = {}
    for log in server.logs.values():
        log.end()
    played.put(ended=True)
    for thread in threading.enumerate():
        if thread.name == READER:
            thread.join(10)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK", 0.1)


class Reader:
    """Follows in a thread, so that a test can go on."""

    def __init__(self, lines: Iterator[LogLine]) -> None:
        self.lines: list[LogLine] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._read, args=(lines,), daemon=True, name=READER)
        self.thread.start()

    def _read(self, lines: Iterator[LogLine]) -> None:
        try:
            for line in lines:
                self.lines.append(line)
        except BaseException as error:
            self.error = error

    def has(self, *wanted: str) -> None:
        deadline = time.monotonic() + 10
        while self.lines != list(wanted):
            assert time.monotonic() < deadline, (self.lines, self.error)
            assert len(self.lines) <= len(wanted), self.lines
            time.sleep(0.02)

    def ends_with(self, *wanted: str) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert (self.lines, self.error) == (list(wanted), None)


def follow(client: Client, **options: Any) -> Reader:
    return Reader(client.get_job_logs("demo", follow=True, **options))


def test_attempts_that_were_over_are_not_shown_and_later_ones_are(client: Client, played: Played) -> None:
    for stage, attempt in (("prepare", 1), ("train", 1)):
        played.pod(stage, attempt).write(f"old {stage}")
        played.end(stage, attempt)
    log = played.pod("train", 2)
    log.write("one")
    reader = follow(client)
    reader.has("one")
    time.sleep(0.5)  # several looks
    log.write("two")
    reader.has("one", "two")
    played.end("train", 2)
    played.pod("merge").write("merged")
    played.end("merge")
    played.put(ended=True)
    reader.ends_with("one", "two", "merged")


def test_pods_that_are_not_there_yet_are_waited_for(client: Client, played: Played) -> None:
    reader = follow(client)
    time.sleep(0.4)
    played.pod("prepare", state="waiting").write("one")
    time.sleep(0.3)
    assert reader.lines == []
    played.pod("prepare")
    reader.has("one")


@pytest.mark.parametrize("how", ["clean", "broken"])
def test_a_stream_that_ends_before_its_container_is_opened_anew(client: Client, played: Played, how: str) -> None:
    log = played.pod("train")
    log.write("one", "two", "three", "four")  # the last three in one second
    reader = follow(client)
    reader.has("one", "two", "three", "four")
    log.break_off(how)
    log.write("five")
    reader.has("one", "two", "three", "four", "five")
    assert log.asked[1].first("sinceTime") == "2026-11-30T03:00:00Z"
    log.break_off(how)
    log.write("six")
    played.end("train")
    played.put(ended=True)
    reader.ends_with("one", "two", "three", "four", "five", "six")


def test_lines_of_one_moment_are_neither_lost_nor_told_twice(client: Client, played: Played) -> None:
    log, stamp = played.pod("train"), "2026-11-30T05:00:01.5+02:00"
    log.write("a", "b", stamp=stamp)
    reader = follow(client)
    reader.has("a", "b")
    log.break_off("clean")
    log.write("c", stamp=stamp)
    reader.has("a", "b", "c")
    log.break_off("clean")
    log.write("d", stamp=stamp)
    reader.has("a", "b", "c", "d")


def test_a_connection_that_has_died_is_noticed(client: Client, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SILENCE", 0.4)
    log = played.pod("train")
    log.write("one")
    reader = follow(client)
    reader.has("one")
    deadline = time.monotonic() + 10
    while len(log.asked) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log.write("two")
    reader.has("one", "two")


def test_a_dead_connection_does_not_look_like_the_end_of_a_log(
    client: Client, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SILENCE", 0.3)
    played.pod("train").write("one")

    def nothing() -> Iterator[bytes]:
        time.sleep(2)
        yield b""

    def silent(request: Request) -> Answer | None:
        return Answer(200, nothing()) if request.path.endswith("/log") else None

    played.server.rules.append(silent)
    with pytest.raises(Exception, match="nothing has come for too long"):
        list(client.get_job_logs("demo"))


def test_an_api_server_and_a_kubelet_that_are_away_are_waited_for(client: Client, played: Played) -> None:
    log = played.pod("train")
    log.write("one")
    reader = follow(client)
    reader.has("one")
    played.server.rules.append(lambda _: Answer(503, b"the server is currently unable to handle the request"))
    log.break_off("broken")
    log.write("two")
    time.sleep(0.5)
    played.server.rules[:] = [
        lambda request: Answer(500, b"dial tcp: connection refused") if request.path.endswith("/log") else None
    ]
    time.sleep(0.5)
    played.server.rules.clear()
    reader.has("one", "two")


def test_the_log_of_a_lost_node_is_given_up_once_the_run_has_ended(client: Client, played: Played) -> None:
    played.pod("train")
    played.server.rules.append(
        lambda request: Answer(500, b"dial tcp: no route to host") if request.path.endswith("/log") else None
    )
    reader = follow(client)
    time.sleep(0.5)
    played.put(ended=True)
    reader.ends_with()


def test_a_pod_that_is_deleted_is_at_its_end(client: Client, played: Played) -> None:
    log = played.pod("train")
    log.write("one")
    reader = follow(client)
    reader.has("one")
    del played.server.objects["pods"]["demo-train-1-0"]
    log.break_off("clean")
    played.put(ended=True)
    reader.ends_with("one")


@pytest.mark.parametrize(("tail", "shown"), [(None, ["one", "two", "three"]), (1, ["three"]), (0, [])])
def test_a_tail_is_of_what_was_there(client: Client, played: Played, tail: int | None, shown: list[str]) -> None:
    log = played.pod("train", 1)
    log.write("one", "two")
    if shown:
        log.write("three")
    reader = follow(client, tail=tail)
    while not log.asked:
        time.sleep(0.02)
    reader.has(*shown)
    played.pod("train", 2).write("of another attempt", "whole")
    reader.has(*shown, "of another attempt", "whole")


def test_a_silent_pod_of_which_no_line_was_wanted_loses_none(client: Client, played: Played) -> None:
    log = played.pod("train")
    log.write("old")
    reader = follow(client, tail=0)
    while not log.asked:
        time.sleep(0.02)
    log.break_off("broken")
    deadline = time.monotonic() + 10
    while len(log.asked) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "tailLines" not in log.asked[1].query
    assert log.asked[1].first("sinceTime").endswith("Z")
    assert reader.lines == []


def test_who_reads_slowly_does_not_have_all_in_memory(client: Client, played: Played) -> None:
    log = played.pod("train")
    log.write(*(f"line {number}" for number in range(20_000)))
    lines = client.get_job_logs("demo", follow=True)
    assert next(lines) == "line 0"
    time.sleep(1)
    assert lines.gi_frame.f_locals["following"].items.qsize() <= following._AHEAD  # type: ignore[attr-defined]
    lines.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("log of demo") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread is left"
        time.sleep(0.05)


def test_a_kubelets_own_words_are_told_once(client: Client, played: Played) -> None:
    log = played.pod("train")
    log.write("one")
    own = "unable to retrieve container logs for containerd://1"

    def answer(request: Request) -> Answer | None:
        return Answer(200, iter([f"{own}\n".encode()])) if request.path.endswith("/log") else None

    played.server.rules.append(answer)
    reader = follow(client)
    time.sleep(0.5)
    reader.has(own)


def test_half_a_line_is_not_told(client: Client, played: Played) -> None:
    log = played.pod("train")
    halves = [iter([b"2026-11-30T03:00:00.000000000Z one\n2026-11-30T03:00:00.300000000Z tw"])]
    played.server.rules.append(
        lambda request: Answer(200, halves.pop()) if request.path.endswith("/log") and halves else None
    )
    log.write("one", "two")
    reader = follow(client)
    reader.has("one", "two")
