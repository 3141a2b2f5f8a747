"""Requests: credentials that expire, servers that are busy or away, proxies, pages, what is no answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import ProxyHandler, build_opener
from urllib.request import Request as Forwarded

import pytest
from tests.unit.client.api_server import Answer, Request, Server, kubeconfig, recorded

from qwensft import Client
from qwensft.client import commands, connection
from qwensft.client.errors import NotLoggedInError, ServerError, UnreachableError

_DIRECT = build_opener(ProxyHandler({}))


def only_for(token: str, server: Server) -> None:
    """Have the server know this token alone."""

    def judge(request: Request) -> Answer | None:
        return None if request.header("Authorization") == [f"Bearer {token}"] else recorded("not logged in")

    server.rules.append(judge)


def test_a_token_that_has_expired_is_read_again(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url, user={"tokenFile": str(token)}))
    client = Client()
    only_for("new", server)
    token.write_text("new")
    assert client.list_jobs() == []
    token.write_text("newer")
    server.rules.clear()
    only_for("newer", server)
    assert commands.run(client.connection, "p", "files", ["echo", "here"]) == b"here\n"


def test_a_login_plugin_is_run_again(server: Server, tmp_path: Path) -> None:
    """Its tokens say no time at which they expire."""
    said, script = tmp_path / "said", tmp_path / "plugin.sh"
    version = "client.authentication.k8s.io/v1"
    credential = f'{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":"\'$(cat {said})\'"}}}}'
    script.write_text(f"echo '{credential}'\n")
    plugin = {"apiVersion": version, "command": "sh", "args": [str(script)]}
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url, user={"exec": plugin}))
    said.write_text("first")
    client = Client()
    only_for("second", server)
    said.write_text("second")
    assert client.list_jobs() == []


def test_who_is_not_known_is_told_once(server: Server, client: Client) -> None:
    only_for("another", server)
    with pytest.raises(NotLoggedInError, match="log in again"):
        client.list_jobs()
    assert len(server.asked) == 2


def test_another_current_context_does_not_change_what_a_client_means(
    server: Server, client: Client, tmp_path: Path
) -> None:
    only_for("new", server)
    text = kubeconfig(server.url, user={"token": "new"}).replace("current-context: here", "current-context: elsewhere")
    (tmp_path / "kubeconfig").write_text(text)
    assert client.list_jobs() == []


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_server_that_is_too_busy_is_asked_again(server: Server, client: Client, method: str) -> None:
    left = [Answer(429, b"Too many requests", (("Retry-After", "0"),))] * 2
    server.rules.append(lambda _: left.pop() if left else None)
    server.put("qwensftjobs", {"metadata": {"name": "demo"}, "spec": {}})
    if method == "GET":
        client.connection.get("qwensftjobs", "demo")
    else:
        client.connection.merge("qwensftjobs", "demo", {"spec": {"a": 1}})
    assert [request.method for request in server.asked] == [method] * 3


def test_a_server_that_stays_busy_is_told(server: Server, client: Client) -> None:
    server.rules.append(lambda _: Answer(429, b"Too many requests", (("Retry-After", "0"),)))
    with pytest.raises(ServerError, match=r"Too many requests .* try again later"):
        client.list_jobs()


def test_a_page_that_is_too_old_begins_the_list_anew(server: Server, client: Client) -> None:
    def pages(request: Request) -> Answer | None:
        if request.first("continue"):
            return recorded("a page that is too old")
        more = {"continue": "c"} if request.first("limit") else {}
        return Answer(200, {"metadata": {"resourceVersion": "1", **more}, "items": [{"n": bool(more)}]})

    server.rules.append(pages)
    assert client.connection.list("pods")["items"] == [{"n": False}]


@pytest.mark.parametrize("text", [b"<html>Log in, please</html>", b'{"kind": "Lis', b"[]"])
def test_what_is_no_answer_of_an_api_server_is_told(server: Server, client: Client, text: bytes) -> None:
    server.rules.append(lambda _: Answer(200, text))
    with pytest.raises(UnreachableError, match="what answered is not the API server"):
        client.connection.get("pods", "p")


def test_a_server_that_is_not_there_is_told_at_once(server: Server, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        (tmp_path / "kubeconfig").write_text(kubeconfig(f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer"):
            next(Client().watch_job("demo"))
        assert time.monotonic() - began < 5


def test_ages_are_reckoned_by_the_servers_clock(server: Server, client: Client) -> None:
    server.ahead = timedelta(hours=-3)
    client.list_jobs()
    assert abs(client.connection.now() - (datetime.now(UTC) - timedelta(hours=3))) < timedelta(seconds=5)
    server.ahead = timedelta()
    client.list_jobs()
    assert abs(client.connection.now() - datetime.now(UTC)) < timedelta(seconds=1)


def test_a_watch_in_which_nothing_comes_ends(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SILENCE", 0.3)
    assert list(client.connection.watch("pods", seconds=30, resourceVersion="999")) == []


def test_a_change_is_told_once(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwensft.client.jobs._WATCH", 1.0)
    datasets = [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}]
    spec = {"model": {"name": "m/m"}, "datasets": datasets, "storage": {"volume": {"claimName": "c"}}}
    document = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "demo"}, "spec": spec}
    server.put("qwensftjobs", document)
    assert len(list(client.watch_job("demo", timeout=2.5))) == 1


class _Proxy(BaseHTTPRequestHandler):
    """Forwards requests, and tunnels."""

    used: list[str]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.used.append(f"GET {self.path.partition('?')[0]}")
        with _DIRECT.open(Forwarded(self.path, headers=dict(self.headers))) as answer:  # noqa: S310
            text = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_CONNECT(self) -> None:
        self.used.append(f"CONNECT {self.path}")
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()

            def back() -> None:
                while block := there.recv(2**16):
                    self.connection.sendall(block)

            threading.Thread(target=back, daemon=True).start()
            while block := self.rfile.read1(2**16):
                there.sendall(block)


@pytest.fixture
def proxy() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"used": []}))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def test_commands_go_by_the_proxy_by_which_requests_go(
    server: Server, proxy: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # what the kubeconfig says comes first
    url = f"http://127.0.0.1:{proxy.server_address[1]}"
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url, cluster={"proxy-url": url}))
    client = Client()
    assert client.connection.list("pods")["items"] == []
    assert commands.run(client.connection, "p", "files", ["echo", "here"]) == b"here\n"
    used = proxy.RequestHandlerClass.used  # type: ignore[attr-defined]
    assert used == [f"GET {server.url}/api/v1/namespaces/team/pods", f"CONNECT {server.url.removeprefix('http://')}"]


@pytest.mark.parametrize("spared", ["127.0.0.0/8", "{host}", "*"])
def test_where_no_proxy_spares_the_api_server_it_spares_commands(
    server: Server, monkeypatch: pytest.MonkeyPatch, spared: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", spared.format(host=server.url.removeprefix("http://")))
    client = Client()
    assert client.connection.list("pods")["items"] == []
    assert commands.run(client.connection, "p", "files", ["echo", "here"]) == b"here\n"
    assert json.dumps(server.commands) == '[["echo", "here"]]'
