"""The floor, a process of its own: a plain client that makes the same writes for many runs and reads nothing.

Reads its task as JSON from a file; prints when each run began and ended, by the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.control_plane.api import Api
from benchmarks.control_plane.writes import NAME, NAMESPACE, UID, VERSION, Write


async def _run(task: dict[str, Any]) -> dict[str, Any]:
    started = time.process_time()
    writes = [Write(**write) for write in task["writes"]]
    created: dict[str, float] = {}
    told: dict[str, float] = {}
    pending: asyncio.Queue[str] = asyncio.Queue()

    async with Api(task["url"], Path(task["authority"]), task["token"]) as api:

        async def work() -> None:
            while True:
                name = await pending.get()
                values = {NAME: name, NAMESPACE: task["namespace"], UID: str(uuid.uuid4()), VERSION: ""}
                created.setdefault(name, time.monotonic())
                for write in writes:
                    path, body = write.filled(values)
                    answer = await api.write(write.method, path, body)
                    if write.of_run:
                        meta = answer["metadata"]
                        values |= {UID: meta["uid"], VERSION: meta["resourceVersion"]}
                told[name] = time.monotonic()
                pending.task_done()

        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(task["workers"])]
            began = time.monotonic()
            for number in range(task["count"]):
                name = f"{task['prefix']}-{number}"
                if task["rate"]:
                    # A run begins when it is due, whether or not a worker is free.
                    created[name] = began + number / task["rate"]
                    await asyncio.sleep(created[name] - time.monotonic())
                pending.put_nowait(name)
            await pending.join()
            for worker in workers:
                worker.cancel()
    return {"created": created, "told": told, "cpuSeconds": time.process_time() - started}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(json.loads(Path(sys.argv[1]).read_text())))))
