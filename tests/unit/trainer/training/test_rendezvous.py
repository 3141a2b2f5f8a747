"""Waiting for the pods' names, and for node rank 0 to tell where to start, ends when it should, with a reason."""

from __future__ import annotations

import math
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest

from qwensft_trainer import __version__
from qwensft_trainer.base import metrics_server
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.contract.errors import EXIT_RETRYABLE, StageError
from qwensft_trainer.training import rendezvous
from qwensft_trainer.training.start import ROUTE, Answer, Question, Start


def test_a_name_that_resolves_is_not_waited_for() -> None:
    rendezvous.wait_for_name("localhost", 29500, limit=0.0)


def test_a_name_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [socket.gaierror(), socket.gaierror(), [(0, 0, 0, "", ("10.0.0.1", 29500))]]

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
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.001)
    unknown, asked_for = {"pod-0": 50}, []

    def addresses(name: str, _: int) -> list[str]:
        asked_for.append(name)
        unknown[name] = unknown.get(name, 0) - 1
        return [] if unknown[name] >= 0 else ["10.0.0.1"]

    monkeypatch.setattr(rendezvous, "_addresses", addresses)
    rendezvous.wait_for_gang(["pod-0", "pod-1"], 1, 29500, lambda: False)
    assert asked_for == ["pod-1", *["pod-0"] * 51, "pod-1"]


def test_a_gang_that_has_left_since_all_is_done_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(rendezvous, "_addresses", lambda name, _: ["10.0.0.2"] if name == "pod-1" else [])
    looks = iter([False, False, True])
    rendezvous.wait_for_gang(["pod-0", "pod-1"], 1, 29500, lambda: next(looks))
    assert next(looks, None) is None


START = Start("pod-a", "uid-1", 2, "sha256:x", output="train/2", checkpoint="train/1/checkpoint-60", step=60)


@dataclass
class Leader:
    """The pod of node rank 0: what it answers to the calls, one after the other; the last answer stays."""

    answers: list[tuple[int, Any]]
    port: int = 0

    def __call__(self, *_: str) -> tuple[int, Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def serve(self) -> Leader:
        self.port = metrics_server.start(0, Figures("x_", {}, dict), {ROUTE: self}) or 0
        return self


CLIENT = "10.0.0.9"


def as_told(start: Start, version: str = __version__) -> dict[str, Any]:
    """As node rank 0 tells it, from an image of a version."""
    return start.document() | {"version": version}


def is_(state: str) -> tuple[int, dict[str, str]]:
    return 503, {"state": state, "version": __version__}


def question(node: int, *, owner: str = "uid-1", attempt: int = 2, version: str = __version__) -> str:
    return Question(node, owner, attempt, version).query()


def asked(
    port: int, *, limit: float = 5.0, name: str = "127.0.0.1", is_over: bool = False, node_rank: int = 1
) -> Start | None:
    return rendezvous.wait_for_start(
        name, port, node_rank=node_rank, owner="uid-1", attempt=2, is_over=lambda: is_over, limit=limit
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_PAUSE_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_node_rank_0_tells_where_to_start_once_it_knows() -> None:
    leader = Leader([is_("starting"), is_("starting"), (200, as_told(START))]).serve()
    assert asked(leader.port) == START


@pytest.mark.usefixtures("quick")
def test_a_pod_that_is_stopping_sends_nobody_on_a_way() -> None:
    stopping = [False]
    answer = Answer(2, "uid-1", 2, lambda: stopping[0])
    assert answer(question(1), CLIENT) == is_("starting")
    answer.tell(START)
    assert answer(question(1), CLIENT) == (200, as_told(START))
    stopping[0] = True
    assert answer(question(1), CLIENT) == is_("stopping")


@pytest.mark.usefixtures("quick")
def test_nobody_begins_before_the_last_pod_of_the_gang_has_asked() -> None:
    answer = Answer(3, "uid-1", 2, lambda: False)
    answer.tell(START)
    port = metrics_server.start(0, Figures("x_", {}, dict), {ROUTE: answer}) or 0
    found: list[Any] = []

    def lead() -> None:
        rendezvous.wait_for_nodes(answer, [], 29500, lambda: None)
        found.append("leader")

    first = threading.Thread(target=lambda: found.append(asked(port)))
    leader = threading.Thread(target=lead)
    first.start()
    leader.start()
    time.sleep(0.2)
    assert (found, answer.missing()) == ([], [2])
    assert answer(question(2), CLIENT) == (200, as_told(START))
    first.join(5)
    leader.join(5)
    assert sorted(map(str, found)) == sorted(map(str, [START, "leader"]))


def test_a_large_gang_is_answered_at_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port answers few connections at a time (base/metrics_server.py), and all nodes ask there every second."""
    nodes = 256
    answer = Answer(nodes, "uid-1", 2, lambda: False)
    port = metrics_server.start(0, Figures("x_", {}, dict), {ROUTE: answer}) or 0
    asking, unanswered = rendezvous._ask, []

    def ask(*question: Any) -> Any:
        heard = asking(*question)
        if not isinstance(heard, Start) and not heard.is_starting:
            unanswered.append(heard)
        return heard

    monkeypatch.setattr(rendezvous, "_ask", ask)
    with ThreadPoolExecutor(nodes) as pods:
        starts = [pods.submit(asked, port, node_rank=rank) for rank in range(1, nodes)]
        rendezvous.wait_for_nodes(answer, [], 29500, lambda: None)
        time.sleep(2 * rendezvous._PAUSE_SECONDS)  # all of them poll again while node rank 0 decides
        answer.tell(START)
    assert {start.result() for start in starts} == {START}
    assert not unanswered


@pytest.mark.parametrize(
    "query",
    [
        *("", "node=1", "node=1&owner=uid-1&attempt=", "node=x&owner=uid-1&attempt=2"),
        *("node=1&owner=uid-1&attempt=two", "%00&owner=%ff"),
        *(question(1, owner="uid-2"), question(1, attempt=1), question(1, owner="")),
    ],
)
def test_who_is_no_pod_of_this_attempt_neither_counts_nor_hears_anything(query: str) -> None:
    answer = Answer(2, "uid-1", 2, lambda: False)
    answer.tell(START)
    assert answer(query, CLIENT) == (403, {})
    assert answer.missing() == [1]
    assert answer(question(1), CLIENT) == (200, as_told(START))
    assert answer(query, CLIENT) == (403, {})


@pytest.mark.parametrize("node", [0, -1, 2, 10**30])
def test_a_rank_that_the_gang_has_not_is_not_counted(node: int) -> None:
    answer = Answer(2, "uid-1", 2, lambda: False)
    answer.tell(START)
    assert answer(question(node), CLIENT) == is_("starting")


def test_a_training_that_is_done_already_waits_for_nobody() -> None:
    answer = Answer(3, "uid-1", 2, lambda: False)
    answer.tell(replace(START, finished=True))
    assert answer(question(1), CLIENT)[0] == 200


@pytest.mark.usefixtures("quick")
def test_a_pod_that_is_still_starting_is_waited_for_without_a_limit() -> None:
    leader = Leader([is_("starting")] * 30 + [(200, as_told(START))]).serve()
    assert asked(leader.port, limit=0.05) == START
    with socket.socket() as taken:  # bound and not listening: as a pod whose image is still pulled
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        late = Leader([(200, as_told(START))])

        def come_up() -> None:
            taken.close()
            metrics_server.start(port, Figures("x_", {}, dict), {ROUTE: late})

        threading.Timer(0.3, come_up).start()
        assert asked(port, limit=0.05) == START


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "answer",
    [
        (404, {}),
        (200, ["something else"]),
        (200, as_told(replace(START, owner="uid-0"))),
        (200, as_told(replace(START, attempt=1))),
        (200, as_told(START) | {"checkpoint": 7}),
    ],
)
def test_somebody_else_at_the_port_is_no_leader(answer: tuple[int, Any]) -> None:
    with pytest.raises(StageError, match=r"has not told on port .* answers as no pod") as caught:
        asked(Leader([answer]).serve().port, limit=0.05)
    assert (caught.value.reason, caught.value.exit_code) == ("RendezvousTimeout", EXIT_RETRYABLE)
    assert "spec.worker.hostNetwork" in caught.value.message


OLDER = START.document()  # of an image that does not tell its version


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ((503, {"state": "starting"}), "0.2.0 or an earlier one"),  # 0.2.0's, for ever: it does not read the question
        ((200, OLDER), "0.2.0 or an earlier one"),
        ((503, {"state": "starting", "version": "9.1.0"}), "9.1.0"),
        ((200, OLDER | {"version": "9.1.0", "seed": 7}), "9.1.0"),
    ],
)
def test_another_image_at_node_rank_0_ends_the_attempt_at_once(answer: tuple[int, Any], version: str) -> None:
    with pytest.raises(StageError) as caught:
        asked(Leader([answer]).serve().port, limit=60)
    assert (caught.value.reason, caught.value.exit_code) == ("StartMismatch", EXIT_RETRYABLE)
    assert f"node rank 0 the version of the trainer image differs: {__version__} here, there {version}." in (
        caught.value.message
    )
    assert "spec.worker.imagePullPolicy: Always" in caught.value.message


@pytest.mark.usefixtures("quick")
def test_an_earlier_life_of_another_image_that_stops_is_waited_for() -> None:
    stopping = (503, {"state": "stopping"})
    assert asked(Leader([stopping, stopping, (200, as_told(START))]).serve().port) == START


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("query", "version"),
    [
        (question(2, version="9.1.0"), "9.1.0"),
        (f"{question(2, version='')}&more=1", "0.2.0 or an earlier one"),
        ("node=2", "0.2.0 or an earlier one"),
    ],
)
def test_another_image_at_another_node_ends_the_attempt_at_once(query: str, version: str) -> None:
    answer = Answer(3, "uid-1", 2, lambda: False)
    answer.tell(START)
    port = metrics_server.start(0, Figures("x_", {}, dict), {ROUTE: answer}) or 0

    def ask() -> None:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{ROUTE}?{query}", timeout=5)

    threading.Timer(0.1, ask).start()
    names = ["0.invalid", "1.invalid", "localhost"]
    with pytest.raises(StageError) as caught:
        rendezvous.wait_for_nodes(answer, names, port, lambda: None)
    assert caught.value.reason == "StartMismatch"
    assert f"node rank 2 the version of the trainer image differs: {__version__} here, there {version}." in (
        caught.value.message
    )
    assert answer.missing() == [1, 2]


def test_who_asks_as_an_older_image_from_elsewhere_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_addresses", lambda name, _: {"pod-1": ["10.0.0.1"]}[name])
    answer = Answer(2, "uid-1", 2, lambda: False)
    answer.tell(START)
    for query in ("node=1", "node=0", "node=7", "node=", "node=-1", "node=1&owner=uid-1"):
        assert answer(query, CLIENT) == (403, {})
    questions = iter(["node=1", question(1)])

    def look() -> None:
        answer(next(questions), CLIENT)

    rendezvous.wait_for_nodes(answer, ["pod-0", "pod-1"], 29500, look)
    assert answer("node=1", "::ffff:10.0.0.1") == (403, {})
    assert answer.missing() == []


@pytest.mark.usefixtures("quick")
def test_a_port_that_drops_what_is_sent_to_it_names_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_ANSWER_SECONDS", 0.05)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(StageError, match="NetworkPolicy"):
            asked(deaf.getsockname()[1], limit=0.05)


@pytest.mark.usefixtures("quick")
def test_while_an_earlier_life_of_the_pod_stops_under_its_name_the_new_one_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = Leader([(200, as_told(START))]).serve()
    old = Leader([is_("stopping")])
    addresses = {"::1": old, "127.0.0.1": new}
    told: list[str] = []

    def ask(address: str, *_: Any) -> Any:
        told.append(address)
        status, _ = addresses[address]()
        return START if status == 200 else rendezvous._Silence("stopping", is_starting=True)

    def resolve(*_: Any) -> list[str]:
        return ["127.0.0.1"] if len(told) > 6 else list(addresses)

    monkeypatch.setattr(rendezvous, "_addresses", resolve)
    monkeypatch.setattr(rendezvous, "_ask", ask)
    assert asked(new.port) == START
    assert told.count("::1") >= 3


@pytest.mark.usefixtures("quick")
def test_two_pods_that_both_tell_are_not_followed_until_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def resolve(*_: Any) -> list[str]:
        looks.append(1)
        return ["a", "b"] if len(looks) < 5 else ["b"]

    monkeypatch.setattr(rendezvous, "_addresses", resolve)
    monkeypatch.setattr(rendezvous, "_ask", lambda address, *_: replace(START, pod=address))
    found = asked(1)
    assert found is not None
    assert found.pod == "b"
    assert len(looks) == 5


@pytest.mark.usefixtures("quick")
def test_a_node_that_comes_when_all_is_done_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_addresses", lambda *_: [])
    assert asked(1, is_over=True) is None


def test_questions_begin_close_together_and_settle_at_a_second() -> None:
    pauses = list(islice(rendezvous._pauses(math.inf), 8))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_no_pause_is_longer_than_the_limit() -> None:
    assert list(islice(rendezvous._pauses(0.1), 3)) == [0.05, 0.1, 0.1]
