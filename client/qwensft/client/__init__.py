"""The client: runs on a cluster, from Python. Needs the extra `client` of the distribution.

from qwensft import Client

run = Client(namespace="team").train(model="Qwen/Qwen3-8B", rows="rows.jsonl", storage="100Gi")
run.wait(progress=True)
"""

from .aio import AsyncClient, AsyncRun
from .client import Client
from .logs import LogLine
from .run import Run

__all__ = ["AsyncClient", "AsyncRun", "Client", "LogLine", "Run"]
