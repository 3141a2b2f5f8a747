"""Runs in the trainer image: merges the same adapter by the bare export and by both engines, in turns, and verifies.

Usage: measure.py DIRECTORY REPEATS SIZE...; each run is a process of its own, that begins with nothing of its input in
the page cache. Prints JSON.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import contestants  # type: ignore[import-not-found]  # noqa: E402  # beside it in the pod
import models  # type: ignore[import-not-found]  # noqa: E402

_PEAK = re.compile(r"(\w+): at most (\d+) MiB of memory")  # the engines' log
_DROP = Path("/proc/sys/vm/drop_caches")


class Watched:
    """The processes below one of ours: the largest of their peaks, in KiB."""

    def __init__(self) -> None:
        self.resident = 0
        self.anonymous = 0

    def look(self, root: int) -> None:
        """Take the figures of now. VmHWM is a peak already, what is anonymous (no file's pages) is a sample."""
        for pid in _tree(root):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            self.resident = max(self.resident, _kibibytes(status, "VmHWM"))
            self.anonymous = max(self.anonymous, _kibibytes(status, "RssAnon"))


def measured(name: str, directory: Path) -> dict[str, Any]:
    """Run one contestant in a process of its own."""
    shutil.rmtree(directory / name, ignore_errors=True)
    cache = _empty_cache(directory)
    environment = os.environ | {
        "HF_HOME": str(directory / "home"),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    command = [sys.executable, contestants.__file__, name, str(directory)]
    watched, before, started = Watched(), _read_and_written(), time.monotonic()
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            watched.look(process.pid)
            time.sleep(0.05)
    seconds = time.monotonic() - started
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = (directory / f"{name}.log").read_text()
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{said[-3000:]}")
    after = _read_and_written()
    found = {
        "name": name,
        "seconds": round(seconds, 2),
        "cpuSeconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peakMiB": watched.resident >> 10,
        "anonymousMiB": watched.anonymous >> 10,
        **{key: after[key] - before[key] for key in after},
        "steps": {step: int(peak) for step, peak in _PEAK.findall(said)},
        "cache": cache,
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def _empty_cache(directory: Path) -> str:
    """Drop the page cache, or the pages of our files where only the machine's owner may do that; tells which."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # only pages that are written can go
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    try:
        _DROP.write_text("1")
    except OSError:
        return "the files' pages dropped (posix_fadvise)"
    return "all dropped (drop_caches)"


def _read_and_written() -> dict[str, int]:
    """Bytes by this process and those whose end it has seen: as they asked for them, and what came to the disk.

    Files that are mapped into memory are read without asking.
    """
    counted = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    names = {"askedRead": "rchar", "askedWritten": "wchar", "diskRead": "read_bytes", "diskWritten": "write_bytes"}
    return {name: int(counted[key]) for name, key in names.items()}


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children[parent].append(int(entry.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _kibibytes(status: str, key: str) -> int:
    line = status.partition(f"\n{key}:")[2]
    return int(line.split()[0]) if line else 0


def _of_size(directory: Path, size: str, repeats: int) -> dict[str, Any]:
    shutil.rmtree(directory, ignore_errors=True)
    started = time.monotonic()
    models.write_base(directory / "base", size)
    models.write_adapter(directory / "adapter", size)
    models.write_rows(directory / "data")
    print(f"wrote {size} B in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    runs = []
    for _ in range(repeats):
        for name in contestants.ALL:
            runs.append(measured(name, directory))
            if name != "streaming":  # what the verification reads stays
                shutil.rmtree(directory / name, ignore_errors=True)
    shutil.rmtree(directory)
    return {"size": size, **bytes_of(size), "runs": runs}


def bytes_of(size: str) -> dict[str, int]:
    """Parameters of a size, and the bytes of its tensors: all, and those that the adapter touches."""
    counts = {name: models.count_of(shape) for name, shape in models.shapes_of(size).items()}
    touched = sum(count for name, count in counts.items() if models.is_touched(name))
    return {"parameters": sum(counts.values()), "bytes": 2 * sum(counts.values()), "touchedBytes": 2 * touched}


def main() -> None:
    """Measure size by size."""
    directory, repeats, sizes = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    found = [_of_size(directory / size, size, repeats) for size in sizes]
    print(json.dumps({"sizes": found, "largest": {"size": "72", **bytes_of("72")}}))


if __name__ == "__main__":
    main()
