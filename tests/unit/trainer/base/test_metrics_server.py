"""Figures are served over HTTP while another process writes them, those of a training and those of a merge."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwensft_trainer.base import metrics_server
from qwensft_trainer.base.files import write_json
from qwensft_trainer.merging import figures as merging
from qwensft_trainer.training import figures, progress
from qwensft_trainer.training.progress import Progress


def get(port: int, route: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{route}", timeout=5) as answer:
        return answer.status, answer.read().decode()


@pytest.fixture
def served(tmp_path: Path) -> tuple[int, Path]:
    path = tmp_path / "progress.json"
    port = metrics_server.start(0, figures.figures(figures.Reader(path, started=1.6e9, processes=1).read))
    assert port is not None
    return port, path


def test_metrics_follow_the_progress_file(served: tuple[int, Path]) -> None:
    port, path = served
    assert get(port, "/metrics") == (200, "")
    progress.write(path, Progress(step=7))
    assert "qwensft_train_step 7.0" in get(port, "/metrics")[1]
    progress.write(path, Progress(step=8))
    assert "qwensft_train_step 8.0" in get(port, "/metrics?x=1")[1]


def test_a_half_written_file_is_no_error(served: tuple[int, Path]) -> None:
    port, path = served
    path.write_text('{"step": ')
    assert get(port, "/metrics") == (200, "")


def test_health_is_served_from_the_start(served: tuple[int, Path]) -> None:
    assert get(served[0], "/healthz") == (200, "ok\n")


def test_other_routes_are_not_found(served: tuple[int, Path]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(served[0], "/")
    assert caught.value.code == 404


def test_a_taken_port_does_not_stop_the_stage(served: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert metrics_server.start(served[0], figures.figures(lambda: None)) is None
    assert "metrics are not served" in capsys.readouterr().out


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_who_connects_and_says_nothing_occupies_few_threads_and_not_for_long(
    served: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.5)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for silent in [stack.enter_context(connected(served[0])) for _ in range(4 * metrics_server.MOST_CONNECTIONS)]:
            # Two for each that is answered, and those that are just ending; not two for each that was opened.
            assert threading.active_count() <= before + 4 * metrics_server.MOST_CONNECTIONS
            assert silent.recv(1) == b""
        assert get(served[0], "/healthz") == (200, "ok\n")


def test_who_connects_and_says_nothing_makes_room_for_one_that_asks(served: tuple[int, Path]) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(served[0])) for _ in range(metrics_server.MOST_CONNECTIONS)]
        began = time.monotonic()
        assert get(served[0], "/healthz") == (200, "ok\n")
        # Silence itself is borne for five seconds.
        assert time.monotonic() - began < 3
        assert silent[0].recv(1) == b"", "the oldest has gone"
        silent[-1].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert silent[-1].recv(15) == b"HTTP/1.0 200 OK", "and no other"


def test_a_whole_gang_that_asks_at_once_is_answered(served: tuple[int, Path]) -> None:
    with ThreadPoolExecutor(100) as pods:
        answers = list(pods.map(lambda _: get(served[0], "/healthz"), range(200)))
    assert set(answers) == {(200, "ok\n")}


def test_who_sends_a_request_byte_by_byte_is_ended(served: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_CONNECTION_SECONDS", 0.5)
    with connected(served[0]) as slow:
        ended = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    slow.sendall(b"x")

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert slow.recv(1) == b""
        finally:
            ended.set()
            sender.join()


def test_broken_connections_leave_no_traceback_in_the_log(
    served: tuple[int, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        with connected(served[0]) as broken:
            broken.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at its end
    assert get(served[0], "/healthz") == (200, "ok\n")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_bytes_of_a_merge_are_served_from_when_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    port = metrics_server.start(0, merging.figures(path))
    assert port is not None
    assert get(port, "/metrics") == (200, "")
    write_json(path, {"bytesDone": 5, "bytesTotal": 6})
    lines = [line for line in get(port, "/metrics")[1].splitlines() if not line.startswith("#")]
    assert lines == ["qwensft_merge_bytes_done 5.0", "qwensft_merge_bytes_total 6.0"]
