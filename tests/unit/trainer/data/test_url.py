"""Files behind http, s3 and gs addresses arrive whole, go on where they stopped, and failures tell what to change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.hubs import files as web
from tests.hubs import s3
from tests.hubs.fixtures import RunningHub, running

from qwensft_trainer.contract.config import DatasetDownload
from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE, StageError
from qwensft_trainer.data import url as dataset_url
from qwensft_trainer.data.url import Address

from ..elsewhere import elsewhere
from ..waiting import eventually

ROWS = b"".join(b'{"instruction": "Say %d", "output": "%d"}\n' % (number, number) for number in range(5000))
FIELD = "spec.datasets[tickets].source.url"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dataset_url, "_PIECE", 50_000)
    monkeypatch.setattr("qwensft_trainer.data.url.time.sleep", lambda _: None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningHub]:
    (tmp_path / "served" / "sft").mkdir(parents=True)
    (tmp_path / "served" / "sft" / "rows.jsonl").write_bytes(ROWS)
    with running(web, tmp_path / "served") as server:
        yield server


def secret(tmp_path: Path, **keys: str) -> Path:
    directory = tmp_path / "secret"
    directory.mkdir()
    for name, value in keys.items():
        (directory / name).write_text(value + "\n")
    return directory


def fetched(tmp_path: Path, url: str, *, sha256: str | None = None, **more: Any) -> bytes:
    target = tmp_path / "down" / "rows.jsonl"
    Address(DatasetDownload(hub="url", url=url, **more), FIELD).fetch(url, target, sha256=sha256)
    assert [path.name for path in target.parent.iterdir()] == ["rows.jsonl"]
    return target.read_bytes()


def failure(tmp_path: Path, url: str, **more: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        fetched(tmp_path, url, **more)
    return caught.value


def refusal(tmp_path: Path, url: str, **more: Any) -> str:
    error = failure(tmp_path, url, **more)
    assert (error.reason, error.exit_code) == ("InvalidDataset", EXIT_PERMANENT)
    return error.message


def test_a_file_comes_in_pieces_by_range(site: RunningHub, tmp_path: Path) -> None:
    assert fetched(tmp_path, f"{site.url}/sft/rows.jsonl", sha256=hashlib.sha256(ROWS).hexdigest().upper()) == ROWS
    eventually(lambda: len(site.asked_for("rows.jsonl")) == len(ROWS) // 50_000 + 1)


def test_a_broken_connection_is_taken_up_where_it_broke(site: RunningHub, tmp_path: Path) -> None:
    site.fault(breakAfter=10_000, path="rows.jsonl", times=2)
    assert fetched(tmp_path, f"{site.url}/sft/rows.jsonl") == ROWS


def test_a_later_attempt_goes_on_with_what_an_earlier_one_left(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{site.url}/sft/rows.jsonl"
    interrupted(Address(DatasetDownload(hub="url", url=url), FIELD), url, tmp_path / "down" / "rows.jsonl", monkeypatch)
    assert fetched(tmp_path, url) == ROWS
    eventually(lambda: site.sent("rows.jsonl") == len(ROWS))


def test_a_file_that_changed_in_between_is_fetched_anew(site: RunningHub, tmp_path: Path) -> None:
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "rows.jsonl.part").write_bytes(b"of an older file")
    (tmp_path / "down" / "rows.jsonl.part.json").write_text('{"url": "of it"}')
    assert fetched(tmp_path, f"{site.url}/sft/rows.jsonl") == ROWS


def test_what_the_volume_lacks_is_not_laid_at_the_servers_door(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Address._receive

    def vanish(address: Address, url: str, part: Path, size: int | None) -> None:
        part.symlink_to(tmp_path / "gone" / part.name)
        receive(address, url, part, size)

    monkeypatch.setattr(Address, "_receive", vanish)
    with pytest.raises(FileNotFoundError, match=r"rows\.jsonl\.part"):
        fetched(tmp_path, f"{site.url}/sft/rows.jsonl")


def interrupted(address: Address, url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch the first piece, then stop as a deleted pod does."""
    pieces = address._pieces

    def first(*_: Any) -> Iterator[bytes]:
        yield next(pieces(url, 0, len(ROWS)))
        raise RuntimeError("the pod was deleted")

    with monkeypatch.context() as patch:
        patch.setattr(address, "_pieces", first)
        with pytest.raises(StageError):
            address.fetch(url, target)
    assert target.with_name("rows.jsonl.part").stat().st_size == 50_000


def test_a_half_of_which_nobody_knows_the_version_is_not_continued(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fault(noETag=True, path="rows.jsonl", times=1000)
    url = f"{site.url}/sft/rows.jsonl"
    interrupted(Address(DatasetDownload(hub="url", url=url), FIELD), url, tmp_path / "down" / "rows.jsonl", monkeypatch)
    changed = ROWS.replace(b"Say", b"Sing")[: len(ROWS)]
    (site.root / "sft" / "rows.jsonl").write_bytes(changed)
    assert fetched(tmp_path, url) == changed


def test_a_file_that_changes_while_it_comes_is_not_taken(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{site.url}/sft/rows.jsonl?signature=secret"
    address = Address(DatasetDownload(hub="url", url=url), FIELD)
    pieces = address._pieces

    def changing(*arguments: Any) -> Iterator[bytes]:
        for piece in pieces(*arguments):
            yield piece
            (site.root / "sft" / "rows.jsonl").write_bytes(ROWS.replace(b"Say", b"Ask"))

    monkeypatch.setattr(address, "_pieces", changing)
    with pytest.raises(StageError, match=r"/sft/rows\.jsonl changed while it was downloaded") as caught:
        address.fetch(url, tmp_path / "down" / "rows.jsonl")
    assert (caught.value.reason, caught.value.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)
    assert "secret" not in caught.value.message
    assert not (tmp_path / "down" / "rows.jsonl").exists()
    assert fetched(tmp_path, url) == ROWS.replace(b"Say", b"Ask")


def test_the_authorization_is_not_sent_on_to_another_host(site: RunningHub, tmp_path: Path) -> None:
    credentials = secret(tmp_path, AUTHORIZATION="Bearer abc")
    with elsewhere(b"{}\n") as other:
        url = f"{site.url}/sft/rows.jsonl?redirect={other.url}/rows.jsonl"
        assert fetched(tmp_path, url, credentials=credentials) == b"{}\n"
    assert other.headers
    assert not any("abc" in headers for headers in other.headers)


def test_neither_log_nor_error_shows_the_signature_of_an_address(
    site: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{site.url}/sft/rows.jsonl?X-Amz-Signature=secret"
    interrupted(Address(DatasetDownload(hub="url", url=url), FIELD), url, tmp_path / "down" / "rows.jsonl", monkeypatch)
    site.fault(breakAfter=10_000, path="rows.jsonl", times=1)
    assert fetched(tmp_path, url) == ROWS
    messages = [refusal(tmp_path, url, sha256="0" * 64), refusal(tmp_path, url.replace("rows", "lost"))]
    for status in (400, 403, 503):
        site.fault(status=status, path="rows.jsonl", times=2)
        messages.append(failure(tmp_path, url).message)
    printed = capsys.readouterr().out
    assert "going on from byte" in printed
    assert "secret" not in printed + "".join(messages)


def test_a_server_without_ranges_sends_the_whole_file(site: RunningHub, tmp_path: Path) -> None:
    site.fault(noRange=True, path="rows.jsonl", times=100)
    assert fetched(tmp_path, f"{site.url}/sft/rows.jsonl") == ROWS


def test_another_checksum_means_another_file(site: RunningHub, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"{site.url}/sft/rows.jsonl", sha256="0" * 64)
    assert f"has the SHA-256 {hashlib.sha256(ROWS).hexdigest()}, not {'0' * 64}" in message
    assert f"Correct {FIELD}.sha256." in message


def test_a_missing_file_is_told_with_the_field(site: RunningHub, tmp_path: Path) -> None:
    url = f"{site.url}/sft/lost.jsonl"
    assert refusal(tmp_path, url) == f"There is no file at {url}: correct {FIELD}.url."


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


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_worth_another_try(site: RunningHub, tmp_path: Path, status: int) -> None:
    site.fault(status=status, path="rows.jsonl", times=100)
    error = failure(tmp_path, f"{site.url}/sft/rows.jsonl")
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)
    assert str(status) in error.message


def test_a_server_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    error = failure(tmp_path, "http://127.0.0.1:9/rows.jsonl")
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)


def test_an_endpoint_is_for_stores(site: RunningHub, tmp_path: Path) -> None:
    assert "endpoint is for s3:// and gs://" in refusal(tmp_path, f"{site.url}/sft/rows.jsonl", endpoint=site.url)


KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    (tmp_path / "s3" / "team" / "sft").mkdir(parents=True)
    (tmp_path / "s3" / "team" / "sft" / "rows.jsonl").write_bytes(ROWS)
    return tmp_path / "s3"


def test_an_s3_file_needs_the_keys_of_the_secret(bucket: Path, tmp_path: Path) -> None:
    url = "s3://team/sft/rows.jsonl"
    with running(s3, bucket, key=("me", "mine")) as store:
        credentials = secret(tmp_path, **KEYS, AWS_REGION="eu-central-1")
        assert fetched(tmp_path, url, endpoint=store.url, credentials=credentials) == ROWS
        assert "with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in" in refusal(tmp_path, url, endpoint=store.url)
        (credentials / "AWS_SECRET_ACCESS_KEY").write_text("wrong")
        message = refusal(tmp_path, url, endpoint=store.url, credentials=credentials)
        assert f"Access to {url} is denied: check that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in" in message
        (credentials / "AWS_SECRET_ACCESS_KEY").unlink()
        message = refusal(tmp_path, url, endpoint=store.url, credentials=credentials)
        assert "has no key AWS_SECRET_ACCESS_KEY, which s3:// addresses need" in message


def test_an_s3_file_can_be_public_or_missing(bucket: Path, tmp_path: Path) -> None:
    with running(s3, bucket) as store:
        assert fetched(tmp_path, "s3://team/sft/rows.jsonl", endpoint=store.url) == ROWS
        for url in ("s3://team/sft/lost.jsonl", "s3://nobody/rows.jsonl"):
            assert f"There is no file at {url}" in refusal(tmp_path, url, endpoint=store.url)


def test_an_s3_store_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    url = "s3://team/sft/rows.jsonl"
    error = failure(tmp_path, url, endpoint="http://127.0.0.1:9", credentials=secret(tmp_path, **KEYS))
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)


class CloudStorage(BaseHTTPRequestHandler):
    """The two requests of Google Cloud Storage's JSON API that reading a file takes."""

    granted: str | None = None

    def do_GET(self) -> None:
        if self.granted is not None and self.headers.get("Authorization") != f"Bearer {self.granted}":
            self._send(403, b'{"error": {"code": 403, "message": "no access"}}', {})
        elif "lost" in self.path:
            self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}', {})
        elif "alt=media" in self.path:
            start, end = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
            piece = ROWS[start : end + 1]
            self._send(206, piece, {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(ROWS)}"})
        else:
            described = {"bucket": "team", "name": "sft/rows.jsonl", "size": str(len(ROWS)), "generation": "1"}
            self._send(200, json.dumps(described).encode(), {"Content-Type": "application/json"})

    def do_POST(self) -> None:
        self._send(200, json.dumps({"access_token": "pass", "expires_in": 3600}).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[CloudStorage], str]]:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    handler: type[CloudStorage] = type("Handler", (CloudStorage,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_gs_file_can_be_public_or_missing(cloud: tuple[type[CloudStorage], str], tmp_path: Path) -> None:
    _, endpoint = cloud
    assert fetched(tmp_path, "gs://team/sft/rows.jsonl", endpoint=endpoint) == ROWS
    assert "There is no file at gs://team/lost" in refusal(tmp_path, "gs://team/lost", endpoint=endpoint)


def test_a_gs_file_is_read_with_the_service_accounts_key(cloud: tuple[type[CloudStorage], str], tmp_path: Path) -> None:
    handler, endpoint = cloud
    handler.granted = "pass"
    url = "gs://team/sft/rows.jsonl"
    message = refusal(tmp_path, url, endpoint=endpoint)
    assert f"name a Secret with GOOGLE_APPLICATION_CREDENTIALS in {FIELD}.credentialsSecretRef" in message
    key = {"type": "service_account", "client_email": "me@team.example", "token_uri": f"{endpoint}/token"}
    credentials = secret(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=json.dumps(key | {"private_key": private_key()}))
    assert fetched(tmp_path, url, endpoint=endpoint, credentials=credentials) == ROWS
    handler.granted = "another"
    assert "Access to gs://" in refusal(tmp_path, url, endpoint=endpoint, credentials=credentials)
    (credentials / "GOOGLE_APPLICATION_CREDENTIALS").write_text("a path?")
    message = refusal(tmp_path, url, endpoint=endpoint, credentials=credentials)
    assert "must be the JSON key of a service account" in message


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


def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    ("url", "name", "expected"),
    [
        ("https://x.example/a/rows.jsonl?token=1", "images/1.png", "https://x.example/a/images/1.png"),
        ("s3://team/rows.jsonl", "1.png", "s3://team/1.png"),
        ("gs://team/sft/rows.jsonl", "../1.png", "gs://team/sft/../1.png"),
        ("https://x.example/a/b.json", "Bild 1#2?.png", "https://x.example/a/Bild%201%232%3F.png"),
        ("s3://team/a b.json", "1#2?.png", "s3://team/1#2?.png"),
    ],
)
def test_the_address_of_a_file_beside_the_data(url: str, name: str, expected: str) -> None:
    assert Address(DatasetDownload(hub="url", url=url), FIELD).beside(name) == expected
