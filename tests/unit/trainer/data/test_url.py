"""Files behind http addresses arrive whole, go on where they stopped, and failures tell what to change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hubs.fixtures import RunningHub

from qwensft_trainer.contract.config import DatasetDownload
from qwensft_trainer.contract.errors import EXIT_RETRYABLE, StageError
from qwensft_trainer.data.url import Address

from ..waiting import eventually
from .fetching import FIELD, ROWS, failure, fetched, refusal

pytestmark = pytest.mark.usefixtures("quick")


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
