"""Every reason that a user may meet stands in docs/operations.md."""

import re
from pathlib import Path

from qwensft.api.v1alpha1 import Reason

REPOSITORY = Path(__file__).parents[4]


def documented() -> list[str]:
    """The reasons in the first column of the page's tables."""
    _, page = (REPOSITORY / "docs" / "operations.md").read_text().split("## When something is wrong")
    cells = re.findall(r"^\| ([^|]+) \|", page.partition("\n## ")[0], re.MULTILINE)
    return [reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)]


def test_each_reason_is_explained_once() -> None:
    assert sorted(documented()) == sorted(set(Reason) - {Reason.PEER_LOST}), "PeerLost is never a condition's reason"
