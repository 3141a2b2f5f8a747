"""Writes a merged model tensor by tensor from a plan: memory for a few blocks, whatever the size of the model.

Untouched tensors are copied as bytes. Touched ones are round(W + s·B·A), computed in float32 by blocks of rows whose
boundaries depend on the shape alone, so that the same inputs give the same bytes whatever the memory and the number of
threads. Reading and computing, hashing, and writing overlap. A file that is complete outlives a kill.
ADR 0092 says why.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import cpu_limit
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import space
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.merging.numbers import Array, NotFiniteError, from_float32, to_float32
from qwensft_trainer.merging.plan import LowRank, Plan, Step
from qwensft_trainer.merging.weights import Tensor
from qwensft_trainer.model.safetensors_header import SIZES

JOURNAL = ".files.json"
"""In the directory that is written: which files are complete, of which plan."""

_BLOCK_NUMBERS = 512 << 10
"""Numbers of a block: 2 MiB as float32, which stay in the processor's cache while they are computed."""
_COPIED = 2 << 20
_WRITTEN_BACK = 64 << 20
"""Bytes after which the disk is to begin writing: what the system still holds at the end is waited for."""
_MOST_THREADS = 6
_AHEAD = 2  # blocks of each thread

Written = dict[str, dict[str, Any]]
Block = Callable[[], bytes | memoryview]


def write_and_tell(plan: Plan, directory: Path, *, digest: str, progress: Path) -> Written:
    """`write`, with the bytes done and their total in the JSON file `progress`, about once a second."""
    next_time = 0.0

    def tell(done: int) -> None:
        nonlocal next_time
        if time.monotonic() >= next_time or done == plan.size:
            next_time = time.monotonic() + 1
            with suppress(OSError):  # what only informs stops nothing
                files.write_json(progress, {"bytesDone": done, "bytesTotal": plan.size})

    return write(plan, directory, digest=digest, tell=tell)


def write(plan: Plan, directory: Path, *, digest: str, tell: Callable[[int], None] = lambda _: None) -> Written:
    """Write the plan's files into `directory`; returns {name: {"sha256": hex, "sizeBytes": n}}.

    Files that an interrupted call with the same `digest` has completed are hashed and kept. `tell` is called with the
    bytes that are done. Raises StageError DiskFull before anything is written that cannot fit, PermanentError
    MergeFailed for numbers that cannot be written, OSError.
    """
    done = _kept(directory, digest, {shard.name for shard in plan.shards})
    space.require(directory, plan.size - sum(entry["sizeBytes"] for entry in done.values()), "the merged model needs")
    source = _Source()
    ready = 0
    with ThreadPoolExecutor(min(cpu_limit(), _MOST_THREADS)) as pool, ThreadPoolExecutor(1) as hashing:
        for shard in plan.shards:
            if shard.name in done:
                log(f"{shard.name} is complete")
                ready += sum(step.size for step in shard.steps)
                tell(ready)
                continue
            temporary = directory / f".{shard.name}.partial"
            sha256 = hashlib.sha256(shard.header)
            with temporary.open("wb", buffering=0) as stream:
                begun = 0
                _write_all(stream.fileno(), shard.header)
                for block in _in_order(pool, (block for step in shard.steps for block in _of_step(step, source))):
                    hashed = hashing.submit(sha256.update, block)
                    _write_all(stream.fileno(), block)
                    begun = _begin_writing(stream.fileno(), begun)
                    hashed.result()
                    ready += len(block)
                    tell(ready)
                os.fsync(stream.fileno())
                size = stream.tell()
            temporary.replace(directory / shard.name)
            done[shard.name] = {"sha256": sha256.hexdigest(), "sizeBytes": size}
            files.write_json(directory / JOURNAL, {"digest": digest, "files": done})
    return done


def _kept(directory: Path, digest: str, names: set[str]) -> Written:
    """What an interrupted merge of the same plan has completed, as its bytes prove; all else of its kind goes."""
    journal = files.read_json_object(directory / JOURNAL) or {}
    completed = journal["files"] if journal.get("digest") == digest else {}
    kept: Written = {}
    for path in sorted(directory.iterdir()):
        entry = completed.get(path.name) if path.name in names else None
        if entry is not None and files.sha256_of_file(path) == entry["sha256"]:
            kept[path.name] = entry
        elif path.is_dir():
            shutil.rmtree(path)
        elif (path.name != JOURNAL or not completed) and not path.name.startswith(files.OF_NFS):
            path.unlink()
    return kept


def _in_order(pool: ThreadPoolExecutor, blocks: Iterable[Block]) -> Iterator[bytes | memoryview]:
    """Compute blocks in several threads; hold a bounded number of them."""
    running: deque[Future[bytes | memoryview]] = deque()
    try:
        for block in blocks:
            running.append(pool.submit(block))
            if len(running) > _AHEAD * pool._max_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _of_step(step: Step, source: _Source) -> Iterator[Block]:
    if step.is_copy:
        for start in range(0, step.size, _COPIED):
            yield partial(source.read, step.source, start, min(_COPIED, step.size - start))
        return
    rows, columns = step.shape if step.change is not None else (math.prod(step.shape), 1)
    at_once = max(1, _BLOCK_NUMBERS // max(1, columns))
    for first in range(0, rows, at_once):
        yield partial(_computed, step, source, first, min(rows, first + at_once), columns)


def _computed(step: Step, source: _Source, first: int, end: int, columns: int) -> memoryview:
    try:
        values = source.rows(step.source, first, end, columns)
        if step.change is not None:
            values = changed(values, step.change, source, first, end)
        return from_float32(values, step.dtype)
    except NotFiniteError as error:
        cause = ": training diverged; lower spec.training.learningRate" if "NaN" in str(error) else ""
        raise PermanentError("MergeFailed", f"{step.name} cannot be written: {error}{cause}.") from error


def changed(values: Array, change: LowRank, source: _Source, first: int, end: int) -> Array:
    """Rows `first` to `end` of a weight, [end - first, in], with what the adapter adds to them."""
    a = source.matrix(change.a)
    b = source.rows(change.b, first, end, change.b.shape[1])
    b *= np.float32(change.scale)
    total: Array = b @ a
    total += values
    if change.magnitude is not None:
        lengths = np.sqrt(np.einsum("ij,ij->i", total, total))
        total *= (source.matrix(change.magnitude)[first:end] / lengths)[:, np.newaxis]
    return total


class _Source:
    """Reads parts of tensors; may be used by several threads. Files stay open until the process ends."""

    def __init__(self) -> None:
        self._open = lru_cache(maxsize=None)(partial(os.open, flags=os.O_RDONLY))
        self.matrix = lru_cache(maxsize=4)(self._matrix)

    def read(self, tensor: Tensor, start: int, size: int) -> bytes:
        """`size` bytes of a tensor from `start` on."""
        descriptor, offset = self._open(tensor.path), tensor.start + start
        found = os.pread(descriptor, size, offset)
        while len(found) < size:
            more = os.pread(descriptor, size - len(found), offset + len(found))
            if not more:
                raise StageError("MergeFailed", f"{tensor.path} ends within {tensor.name}: it has changed meanwhile.")
            found += more
        return found

    def rows(self, tensor: Tensor, first: int, end: int, columns: int) -> Array:
        """Rows of a tensor, [end - first, columns]."""
        width = columns * SIZES[tensor.dtype]
        stored = self.read(tensor, first * width, (end - first) * width)
        return to_float32(stored, tensor.dtype).reshape(end - first, columns)

    def _matrix(self, tensor: Tensor) -> Array:
        """A whole tensor of an adapter."""
        return to_float32(self.read(tensor, 0, tensor.size), tensor.dtype).reshape(tensor.shape)


def _write_all(descriptor: int, block: bytes | memoryview) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _begin_writing(descriptor: int, begun: int) -> int:
    """Have the disk begin with what was written since byte `begun`, without waiting for it; where it is to go on.

    Linux does so for pages that are said to be of no more use. They are only dropped once they are written.
    """
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if end - begun < _WRITTEN_BACK:
        return begun
    os.posix_fadvise(descriptor, begun, end - begun, os.POSIX_FADV_DONTNEED)
    return end
