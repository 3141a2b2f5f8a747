"""What a download tells to whom: keys go to their own host, and nothing is asked of the node that the pod runs on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.hubs import s3
from tests.hubs.fixtures import RunningHub, running

from qwensft_trainer.base import node_addresses
from qwensft_trainer.data import url as dataset_url

from ..elsewhere import elsewhere
from .fetching import FIELD, ROWS, CloudStorage, fetched, refusal, secret

pytestmark = pytest.mark.usefixtures("quick")


def test_the_authorization_is_not_sent_on_to_another_host(site: RunningHub, tmp_path: Path) -> None:
    credentials = secret(tmp_path, AUTHORIZATION="Bearer abc")
    with elsewhere(b"{}\n") as other:
        url = f"{site.url}/sft/rows.jsonl?redirect={other.url}/rows.jsonl"
        assert fetched(tmp_path, url, credentials=credentials) == b"{}\n"
    assert other.headers
    assert not any("abc" in headers for headers in other.headers)


def test_http_authorization_comes_from_the_secret_and_stays_with_its_host(site: RunningHub, tmp_path: Path) -> None:
    (site.root / "sft" / ".authorization").write_text("Bearer abc")
    url = f"{site.url}/sft/rows.jsonl"
    assert f"name a Secret with AUTHORIZATION in {FIELD}.credentialsSecretRef" in refusal(tmp_path, url)
    credentials = secret(tmp_path, AUTHORIZATION="Bearer abc")
    assert fetched(tmp_path, url, credentials=credentials) == ROWS
    (credentials / "AUTHORIZATION").write_text("Bearer xyz")
    assert f"check that AUTHORIZATION in the Secret of {FIELD}" in refusal(tmp_path, url, credentials=credentials)


def test_a_secret_without_the_needed_key_is_told_before_anything_is_asked(site: RunningHub, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"{site.url}/sft/rows.jsonl", credentials=secret(tmp_path, OTHER="x"))
    assert "credentialsSecretRef has no key AUTHORIZATION, which http:// addresses need" in message
    assert site.requests == []


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The metadata that any pod of a cloud's node can ask for; what was asked."""
    asked: list[str] = []

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}/")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"):
        monkeypatch.setenv(name, host)
    for name in ("AWS_EC2_METADATA_DISABLED", "NO_GCE_CHECK"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    yield asked
    server.shutdown()
    server.server_close()


def test_without_a_secret_the_role_of_the_node_is_not_used(
    node: list[str],
    bucket: Path,
    cloud: tuple[type[CloudStorage], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_GCE_CHECK")
    with running(s3, bucket) as store:
        assert fetched(tmp_path, "s3://team/sft/rows.jsonl", endpoint=store.url) == ROWS
    assert fetched(tmp_path, "gs://team/sft/rows.jsonl", endpoint=cloud[1]) == ROWS
    assert node == []


def test_the_role_of_the_node_is_asked_for_where_the_job_says_so(
    node: list[str],
    bucket: Path,
    cloud: tuple[type[CloudStorage], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    with running(s3, bucket) as store:
        assert fetched(tmp_path, "s3://team/sft/rows.jsonl", endpoint=store.url) == ROWS
    assert node
    monkeypatch.setenv("NO_GCE_CHECK", "false")
    assert dataset_url._own_login_of_google() == "google_default"


OF_THE_NODE = ("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/", "http://100.100.100.200/")


@pytest.mark.parametrize("target", OF_THE_NODE)
@pytest.mark.parametrize("redirected", [True, False])
def test_nothing_is_asked_of_the_node_by_an_address_or_a_redirect(
    site: RunningHub, tmp_path: Path, target: str, redirected: bool
) -> None:
    url = f"{site.url}/sft/rows.jsonl?redirect={target}" if redirected else target
    message = refusal(tmp_path, url)
    address = target.split("/")[2].strip("[]")
    assert f"{url.partition('?')[0]} leads to {address}, by its name or by a redirect" in message
    assert message.endswith(f"Nothing is fetched from there: correct {FIELD}.url.")


def test_a_real_server_at_such_an_address_hears_of_no_redirect(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_addresses, "REFUSED", (ip_network("127.0.0.2/32"),))
    monkeypatch.setattr("socket.getaddrinfo", answering("metadata.example", "127.0.0.2"))
    with elsewhere(b"secret", host="127.0.0.2") as role:
        for host in ("127.0.0.2", "[::ffff:127.0.0.2]", "metadata.example"):
            url = f"{site.url}/sft/rows.jsonl?redirect=http://{host}:{role.port}/latest"
            assert "leads to" in refusal(tmp_path, url)
            assert "leads to" in refusal(tmp_path, f"http://{host}:{role.port}/rows.jsonl")
        assert role.headers == []
        monkeypatch.setattr(node_addresses, "REFUSED", ())
        assert fetched(tmp_path, url) == b"secret"


def answering(name: str, address: str) -> Callable[..., Any]:
    """A resolver that knows one more name."""
    resolve = socket.getaddrinfo
    return lambda host, *more, **named: resolve(address if host == name else host, *more, **named)


def test_a_store_at_such_an_address_is_not_asked(tmp_path: Path) -> None:
    message = refusal(tmp_path, "s3://latest/meta-data/iam", endpoint="http://169.254.169.254")
    assert "s3://latest/meta-data/iam leads to 169.254.169.254" in message
    assert f"correct {FIELD}.endpoint" in message


def test_where_the_job_asks_for_the_nodes_role_redirects_still_lead_not_there(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("NO_GCE_CHECK", "false")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
    assert dataset_url._own_login("s3") == {"169.254.169.254", "fd00:ec2::254", "169.254.170.23"}
    assert dataset_url._own_login("gs") == {"169.254.169.254", "fd20:ce::254"}
    assert "leads to 169.254.169.254" in refusal(tmp_path, f"{site.url}/sft/rows.jsonl?redirect={OF_THE_NODE[0]}")


def test_through_a_proxy_it_is_the_proxy_that_connects(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with elsewhere(b"what the proxy gives") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert fetched(tmp_path, "http://169.254.169.254/rows.jsonl") == b"what the proxy gives"
        monkeypatch.setenv("no_proxy", "169.254.169.254,127.0.0.1")  # as clusters have it
        assert "leads to 169.254.169.254" in refusal(tmp_path, "http://169.254.169.254/rows.jsonl")
