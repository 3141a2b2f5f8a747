"""Where credentials enter a stage: environment variables, and files of a mounted Secret. Read here and nowhere else.

A Secret made from a file often ends in a newline, and no token begins or ends with a space: both are taken off. What no
HTTP header can carry is refused here, without showing it: the HTTP clients would put the token into their errors. Every
value becomes known to base/redaction.py.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qwensft_trainer.base import files
from qwensft_trainer.base.redaction import secrets
from qwensft_trainer.contract.config import HubName
from qwensft_trainer.contract.errors import PermanentError, invalid_config, invalid_dataset

_TOKENS: dict[HubName, str] = {"huggingFace": "HF_TOKEN", "modelScope": "MODELSCOPE_API_TOKEN"}
_FIELDS = {variable: f"spec.model.source.{hub}.tokenSecretRef" for hub, variable in _TOKENS.items()}
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_NOT_SENT = ("AWS_SECRET_ACCESS_KEY",)  # it signs what is sent
_NO_SECRET = ("AWS_REGION",)  # kept in one all the same

# In a pod nothing tells whether a variable came from a Secret: its name has to (ADR 0072).
_SECRET_NAME = re.compile(r"(TOKEN|KEY|KEY_ID|AUTHORIZATION)$|SECRET|PASSWORD|PASSWD|PASSPHRASE", re.IGNORECASE)
_NAME_OF_ANOTHER_THING = re.compile(r"_(FILE|PATH|DIR|NAME)$", re.IGNORECASE)
_SECRETS_OF_JSON_KEYS = ("private_key", "client_secret", "refresh_token")


def read_environment(environment: MutableMapping[str, str]) -> None:
    """Strip the credentials in `environment` in place, for the libraries that read it, and have all of them hidden.

    Raises PermanentError InvalidConfig for one that cannot be used.
    """
    for value in environment.values():
        for password in _passwords(value):
            secrets.add(password)
    for name in [name for name in environment if _is_secret(name)]:
        secrets.add(environment[name])
        if name in _FIELDS or name in _AWS:
            environment[name] = _usable(environment[name], name, _FIELDS.get(name, f"spec.worker.env[{name}]")) or ""
        elif "\n" not in (stripped := environment[name].strip()):  # else a private key: the last newline belongs to it
            environment[name] = stripped


def model_token(hub: HubName) -> str | None:
    """The token for the model's hub, if there is one. Raises PermanentError InvalidConfig."""
    name = _TOKENS[hub]
    return _usable(os.environ.get(name, ""), name, _FIELDS[name])


def is_given(directory: Path, key: str) -> bool:
    """Whether a mounted Secret has a value for a key."""
    return (directory / key).is_file() and bool((directory / key).read_bytes().strip())


def from_secret(directory: Path | None, key: str, *, field: str) -> str | None:
    """The value of a key of a mounted Secret, None without one.

    Raises PermanentError InvalidConfig that names `field` of the spec.
    """
    if directory is None or not is_given(directory, key):
        return None
    try:
        value = (directory / key).read_bytes().decode()
    except UnicodeDecodeError:
        raise _unusable(field, key, "bytes that are no text") from None  # the error holds the value
    return _usable(value, key, field)


def authorization(directory: Path | None, key: str, *, field: str) -> str | None:
    """The value of an Authorization header out of a mounted Secret, of which what follows the scheme is hidden, too."""
    value = from_secret(directory, key, field=field)
    scheme, _, rest = (value or "").partition(" ")
    secrets.add(rest)
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error):  # the server will say so
            secrets.add(base64.b64decode(rest).decode(errors="replace").partition(":")[2])
    return value


def service_account(directory: Path | None, key: str, *, field: str) -> Path | None:
    """The file with the JSON key of a service account. Raises PermanentError InvalidDataset for anything else."""
    path = directory / key if directory else None
    if path is None:
        return None
    content = files.read_json_object(path)
    if content is None:
        raise invalid_dataset(f"{key} in the Secret of {field} must be the JSON key of a service account.")
    for name in _SECRETS_OF_JSON_KEYS:
        secrets.add(str(content.get(name, "")))
    return path


def _usable(value: str, name: str, field: str) -> str | None:
    if name not in _NO_SECRET:
        secrets.add(value)
    stripped = value.strip()
    if any(character.isascii() and not character.isprintable() for character in stripped):
        raise _unusable(field, name, "a control character inside, such as a line break")
    if name not in _NOT_SENT and not stripped.isascii():
        raise _unusable(field, name, "a character that no HTTP header can carry (anything but ASCII)")
    return stripped or None


def _unusable(field: str, name: str, what: str) -> PermanentError:
    return invalid_config(
        f"{field}: the value of {name} has {what}. Make the Secret anew from the bare value (kubectl create secret "
        "generic NAME --from-literal=KEY=VALUE), then create the job again."
    )


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name)) and not _NAME_OF_ANOTHER_THING.search(name)


def _passwords(value: str) -> Iterator[str]:
    """Of an address such as a proxy's, scheme://user:password@host, as it is written and as it is meant."""
    try:
        password = urlsplit(value).password if "://" in value else None
    except ValueError:  # no address after all
        return
    if password:
        yield from (password, unquote(password))
