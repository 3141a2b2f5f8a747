"""What importing the distribution costs those who need no cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("kubernetes", "pandas", "urllib3", "websocket")


@pytest.mark.parametrize(
    "statement",
    [
        "import qwensft",
        "from qwensft import QwenSFTJob",
        "import qwensft.estimate, qwensft.explain",
        "import qwensft.client",
    ],
)
def test_no_package_of_the_client_is_imported_before_there_is_one(statement: str) -> None:
    code = f"{statement}; import sys; print([name for name in {_HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_name_that_is_not_there_is_told() -> None:
    import qwensft  # noqa: PLC0415

    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        qwensft.Klient  # noqa: B018
