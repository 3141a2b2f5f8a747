"""Every reason that a user may meet stands in docs/operations.md, and every one that the trainer gives is known."""

import ast
import re
from pathlib import Path

from qwensft.api.v1alpha1 import Reason
from qwensft_trainer import failures

REPOSITORY = Path(__file__).parents[3]


def documented() -> list[str]:
    """The reasons in the first column of the page's tables."""
    _, page = (REPOSITORY / "docs" / "operations.md").read_text().split("## When something is wrong")
    cells = re.findall(r"^\| ([^|]+) \|", page.partition("\n## ")[0], re.MULTILINE)
    return [reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)]


def told_by_the_trainer() -> set[str]:
    """The reasons with which the trainer's code makes its errors."""
    found = {reason for reason, _, _ in failures._PATTERNS}
    for path in (REPOSITORY / "trainer-image" / "qwensft_trainer").glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            named = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
            is_error = isinstance(call.func, ast.Name) and call.func.id in ("StageError", "PermanentError")
            values = named + (call.args[:1] if is_error else [])
            found |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    return found


def test_each_reason_is_explained_once() -> None:
    assert sorted(documented()) == sorted(set(Reason) - {Reason.PEER_LOST}), "PeerLost is never a condition's reason"


def test_the_trainer_gives_only_reasons_that_the_api_knows() -> None:
    assert {"InvalidDataset", "OutOfMemory", "KilledBeforeSaved"} <= told_by_the_trainer() <= set(Reason)
