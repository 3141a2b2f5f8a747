from collections.abc import Iterator

import pytest

from .server import Server, oracle
from .settings import Deadline


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oracle(tmp_path_factory.mktemp("oracle")) as server:
        yield server


@pytest.fixture
def deadline(server: Server) -> Deadline:
    """Of a test: it begins once the API server is there."""
    return Deadline()
