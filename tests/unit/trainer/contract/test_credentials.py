"""Credentials are stripped where they are read, and one that cannot be used is refused without being shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from qwensft_trainer.base.redaction import HIDDEN, clean
from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError

FIELD = "spec.datasets[tickets].source.url.credentialsSecretRef"
BROKEN = {
    "a line break": ("hf_first-part\nsecond-part", "control character"),
    "a carriage return": ("hf_first-part\rsecond-part", "control character"),
    "a tab": ("hf_first-part\tsecond-part", "control character"),
    "a NUL": ("hf_first-part\0second-part", "control character"),
    "an umlaut": ("hf_first-pärt-second-part", "ASCII"),
    "a byte order mark": ("\ufeffhf_first-part", "ASCII"),
    "a dash of a word processor": ("hf_first\u2013part", "ASCII"),
}


def secret(tmp_path: Path, **keys: str | bytes) -> Path:
    for key, value in keys.items():
        (tmp_path / key).write_bytes(value.encode() if isinstance(value, str) else value)
    return tmp_path


def refusal(caught: pytest.ExceptionInfo[PermanentError], value: str) -> str:
    """The message of a refusal, in which no part of the value stands."""
    error = caught.value
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert not any(part in error.message for part in ("first", "second", value))
    assert HIDDEN in clean(f"in a traceback: {value!r}")
    return error.message


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}\r\n", "\t{} \n\n"])
def test_whitespace_around_a_token_is_taken_off_for_all_who_read_it(around: str) -> None:
    environment = {
        name: around.format("hf_abcdefgh") for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY")
    }
    credentials.read_environment(environment)
    assert set(environment.values()) == {"hf_abcdefgh"}


def test_whitespace_around_the_value_of_a_secret_is_taken_off(tmp_path: Path) -> None:
    assert credentials.from_secret(secret(tmp_path, KEY="abc\n"), "KEY", field=FIELD) == "abc"
    assert credentials.from_secret(secret(tmp_path, KEY=" \n"), "KEY", field=FIELD) is None
    assert credentials.from_secret(tmp_path, "other", field=FIELD) is None
    assert credentials.from_secret(None, "token", field=FIELD) is None


@pytest.mark.parametrize(("value", "what"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("HF_TOKEN", "spec.model.source.huggingFace.tokenSecretRef"),
        ("MODELSCOPE_API_TOKEN", "spec.model.source.modelScope.tokenSecretRef"),
        ("AWS_SESSION_TOKEN", "spec.worker.env[AWS_SESSION_TOKEN]"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_unseen(name: str, field: str, value: str, what: str) -> None:
    with pytest.raises(PermanentError) as caught:
        credentials.read_environment({name: value})
    message = refusal(caught, value)
    assert message.startswith(field)
    assert what in message


@pytest.mark.parametrize(("value", "what"), BROKEN.values(), ids=BROKEN)
def test_a_value_of_a_secret_that_cannot_be_used_is_refused_unseen(tmp_path: Path, value: str, what: str) -> None:
    with pytest.raises(PermanentError) as caught:
        credentials.from_secret(secret(tmp_path, AUTHORIZATION=value), "AUTHORIZATION", field=FIELD)
    message = refusal(caught, value)
    assert message.startswith(f"{FIELD}: the value of AUTHORIZATION has ")
    assert what in message


def test_bytes_that_are_no_text_are_refused_unseen(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no text") as caught:
        credentials.from_secret(secret(tmp_path, KEY=b"hf_\xff\xfe"), "KEY", field=FIELD)
    assert caught.value.__suppress_context__


def test_a_key_that_is_never_sent_may_have_any_letters(tmp_path: Path) -> None:
    directory = secret(tmp_path, AWS_SECRET_ACCESS_KEY="schlüssel-wort")  # noqa: S106
    assert credentials.from_secret(directory, "AWS_SECRET_ACCESS_KEY", field=FIELD) == "schlüssel-wort"


def test_a_private_key_in_a_variable_keeps_its_lines() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"
    environment = {"DEPLOY_KEY": key}
    credentials.read_environment(environment)
    assert environment["DEPLOY_KEY"] == key
    assert "MIIE" not in clean(key)


@pytest.mark.parametrize(
    ("name", "value", "hides"),
    [
        ("WANDB_API_KEY", "0123456789", True),
        ("swanlab_api_key", "0123456789", True),
        ("DB_PASSWORD", "0123456789", True),
        ("MY_SECRET", "0123456789", True),
        ("AWS_ACCESS_KEY_ID", "0123456789", True),
        ("HTTPS_PROXY", "http://user:0123456789@proxy:3128", True),
        ("GITHUB_TOKEN", "0123456", False),  # too short
        ("TOKENIZERS_PARALLELISM", "0123456789", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/0123456789", False),
        ("HF_TOKEN_PATH", "/0123456789", False),
        ("CLIENT_SECRET_FILE", "/0123456789", False),
        ("NCCL_SOCKET_IFNAME", "0123456789", False),
        ("HTTPS_PROXY", "http://[0123456789", False),
    ],
)
def test_the_name_of_a_variable_tells_whether_its_value_is_hidden(name: str, value: str, hides: bool) -> None:
    credentials.read_environment({name: value})
    assert (HIDDEN in clean("it is 0123456789 or 0123456 there")) is hides


def test_the_region_of_a_bucket_is_no_secret(tmp_path: Path) -> None:
    credentials.from_secret(secret(tmp_path, AWS_REGION="eu-central-1"), "AWS_REGION", field=FIELD)
    assert clean("eu-central-1") == "eu-central-1"


def test_what_follows_the_scheme_of_an_authorization_is_hidden_too(tmp_path: Path) -> None:
    basic = base64.b64encode(b"user:pass-of-user").decode()
    value = credentials.authorization(secret(tmp_path, AUTHORIZATION=f"Basic {basic}\n"), "AUTHORIZATION", field=FIELD)
    assert value == f"Basic {basic}"
    assert clean(f"{basic} pass-of-user") == f"{HIDDEN} {HIDDEN}"


def test_the_key_of_a_service_account_is_hidden(tmp_path: Path) -> None:
    key = {"type": "service_account", "client_email": "me@team.example", "private_key": "--\nMIIEvQIBADANBgkq\n--\n"}
    directory = secret(tmp_path, KEY=json.dumps(key))
    assert credentials.service_account(directory, "KEY", field=FIELD) == directory / "KEY"
    assert clean("MIIEvQIBADANBgkq of me@team.example") == f"{HIDDEN} of me@team.example"
    (tmp_path / "KEY").write_text("no JSON")
    with pytest.raises(PermanentError, match="must be the JSON key"):
        credentials.service_account(directory, "KEY", field=FIELD)
