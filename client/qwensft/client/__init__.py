"""The client: runs on a cluster, from Python. Needs the extra `client` of the distribution.

from qwensft import Client

client = Client(namespace="team")
for job in client.list_jobs():
    print(job.metadata.name, job.status.phase)
"""

from .client import Client
from .logs import LogLine

__all__ = ["Client", "LogLine"]
