"""The user's own authorities are trusted beside the public ones, by every library that opens connections."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import certifi
import pytest

from qwensft_trainer.contract.certificates import trust
from qwensft_trainer.contract.errors import PermanentError

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate that nobody knows."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=company"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca.crt")]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return tmp_path / "ca.crt"


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_both_the_users_and_the_public_authorities_are_trusted(authority: Path, tmp_path: Path) -> None:
    trust(authority, tmp_path)
    for variable in VARIABLES:
        loaded = ssl.create_default_context(cafile=os.environ[variable]).cert_store_stats()["x509_ca"]
        public = ssl.create_default_context(cafile=certifi.where()).cert_store_stats()["x509_ca"]
        assert loaded == public + 1


def test_pythons_own_default_trusts_them_in_child_processes(authority: Path, tmp_path: Path) -> None:
    trust(authority, tmp_path)
    code = "import ssl; print(any('company' in str(c['subject']) for c in ssl.create_default_context().get_ca_certs()))"
    out = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "True"


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_bundle_without_certificates_is_refused_with_the_field(text: str, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(text)
    with pytest.raises(PermanentError, match=r"spec\.worker\.caBundle holds no certificates"):
        trust(tmp_path / "ca.crt", tmp_path)
