"""Files in buckets are read with the keys of their Secret, as public ones without; failures tell what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.hubs import s3
from tests.hubs.fixtures import running

from qwensft_trainer.contract.errors import EXIT_RETRYABLE

from .fetching import FIELD, ROWS, CloudStorage, failure, fetched, refusal, secret

pytestmark = pytest.mark.usefixtures("quick")

KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}


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


def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
