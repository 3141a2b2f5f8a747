"""What is rendered names the operator's version; a release must not change every expected file."""

import pytest

from qwensft_operator.render import run


@pytest.fixture(autouse=True)
def operator_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "__version__", "0.1.0")
