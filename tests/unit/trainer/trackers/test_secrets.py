"""The credentials of trackers come out of mounted Secrets, and one that is of no use is told by its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.config import Trackers
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.trackers import secrets


def mlflow(directory: Path | None) -> Trackers:
    server: dict[str, Any] = {"endpoint": "http://mlflow:5000", "experiment": "e", "credentials": directory}
    return Trackers.model_validate({"runName": "r", "mlflow": server})


def wandb(directory: Path | None) -> Trackers:
    return Trackers.model_validate({"runName": "r", "wandb": {"project": "p", "credentials": directory}})


def secret(tmp_path: Path, **keys: str) -> Path:
    for name, value in keys.items():
        (tmp_path / name).write_text(value)
    return tmp_path


def test_without_secrets_there_are_no_variables() -> None:
    assert secrets.variables(mlflow(None)) == {}
    assert secrets.variables(wandb(None)) == {}


@pytest.mark.parametrize(
    "keys",
    [
        {"MLFLOW_TRACKING_TOKEN": "a-token-of-mlflow"},
        {"MLFLOW_TRACKING_USERNAME": "trainer", "MLFLOW_TRACKING_PASSWORD": "a-password-of-mlflow"},
    ],
)
def test_mlflow_takes_a_token_or_a_user_with_a_password(tmp_path: Path, keys: dict[str, str]) -> None:
    assert secrets.variables(mlflow(secret(tmp_path, **keys))) == keys


def test_a_key_from_a_file_loses_its_newline_and_is_hidden_from_then_on(tmp_path: Path) -> None:
    directory = secret(tmp_path, WANDB_API_KEY="0123456789abcdef0123\n")
    assert secrets.variables(wandb(directory)) == {"WANDB_API_KEY": "0123456789abcdef0123"}
    assert clean("refused: 0123456789abcdef0123") == "refused: [redacted]"


@pytest.mark.parametrize(
    ("trackers", "keys", "words"),
    [
        (mlflow, {}, "credentialsSecretRef: the Secret has neither MLFLOW_TRACKING_TOKEN nor"),
        (mlflow, {"MLFLOW_TRACKING_USERNAME": "trainer"}, "credentialsSecretRef: the Secret has neither"),
        (wandb, {"WANDB_API_KEY": "\n"}, "apiKeySecretRef: the key is empty"),
        (wandb, {"WANDB_API_KEY": "two\nlines"}, "apiKeySecretRef: the value of WANDB_API_KEY has a control character"),
    ],
)
def test_a_secret_of_no_use_is_told_by_its_field(
    tmp_path: Path, trackers: Any, keys: dict[str, str], words: str
) -> None:
    with pytest.raises(PermanentError, match=words):
        secrets.variables(trackers(secret(tmp_path, **keys)))
