"""Certificates of the user's own authorities, beside the public ones, for every library that opens connections."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

from qwensft_trainer.contract.errors import invalid_config

# OpenSSL with httpx and aiohttp (huggingface_hub, fsspec), requests (modelscope), libcurl, botocore (S3).
_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


def trust(bundle: Path, scratch: Path) -> None:
    """Have this process and its children trust the public authorities and those of `bundle`, a file in PEM form.

    Raises PermanentError InvalidConfig when the file holds no certificate.
    """
    text = bundle.read_text(encoding="utf-8", errors="replace")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise invalid_config(
            f"spec.worker.caBundle holds no certificates in PEM form ({error}): they begin with BEGIN CERTIFICATE."
        ) from error
    combined = scratch / "ca-bundle.pem"
    combined.write_text(f"{certifi.contents()}\n{text}\n", encoding="utf-8")
    os.environ.update(dict.fromkeys(_VARIABLES, str(combined)))
