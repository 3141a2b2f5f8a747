"""What only informs may fail: told once, told again when it has worked in between, never raised."""

import pytest

from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import ForbiddenError


async def refused() -> str:
    raise ForbiddenError(403, "Forbidden", "nodes is forbidden")


async def answered() -> str:
    return "nodes"


async def test_a_failure_is_logged_once_until_it_has_passed(caplog: pytest.LogCaptureFixture) -> None:
    best_effort = BestEffort()
    for doing, warnings in ((refused, 1), (refused, 1), (answered, 1), (refused, 2)):
        found = await best_effort.attempt("labels of nodes", doing(), "")
        assert found == ("nodes" if doing is answered else "")
        assert sum(record.levelname == "WARNING" for record in caplog.records) == warnings
