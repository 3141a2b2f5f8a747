"""Where an attempt starts: decided once by node rank 0, told to the others by its pod as long as it lives.

A file would outlive the pod that wrote it: a queue that takes a Job's pods away and gives them back makes a second gang
of the same attempt, which must not read what the first one had decided. So the other nodes ask the pod itself
(rendezvous.py), and before the first step the ranks compare what they were told, and what they see on the volume.
ADR 0121 says why.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode

from qwensft_trainer import __version__
from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import space
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import StageError, invalid_config
from qwensft_trainer.training import checkpoints, manifests, pissa

ROUTE = "/start"  # of the metrics server of node rank 0
VERSION_KEY = "version"  # key of every answer


@dataclass(frozen=True)
class Question:
    """A node asks where its attempt starts. Who may not read the run does not know the UID of its owner (ADR 0170).

    `version` is that of its image, "" of one that does not tell it.
    """

    node: int
    owner: str
    attempt: int
    version: str = __version__

    def query(self) -> str:
        """As it stands in an address."""
        return urlencode(asdict(self))

    @classmethod
    def read(cls, query: str) -> Self | None:
        """What `query` has written; None for anything else."""
        values = parse_qs(query)
        names = (field.name for field in fields(cls))
        node, owner, attempt, version = ([*values.get(name, ()), ""][0] for name in names)
        try:
            return cls(int(node), owner, int(attempt), version)
        except ValueError:
            return None


@dataclass(frozen=True)
class Start:
    """Paths are relative to the run's directory. `pod` is the UID of the pod that has decided.

    `digest` says of what experiment. Either there is a checkpoint at `step` to go on from, or there is none and the
    training begins with the base; or `finished`: the checkpoint is the result already, and nothing is trained.
    """

    pod: str
    owner: str
    attempt: int
    digest: str
    output: str
    checkpoint: str | None = None
    step: int = 0
    finished: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self | None:
        """What `document` has written; None for anything else that may answer at an address."""
        try:
            start = cls(**document)
        except TypeError:
            return None
        texts = (start.pod, start.owner, start.digest, start.output, start.checkpoint or "")
        return start if all(isinstance(text, str) for text in texts) else None

    def as_seen(self, experiment: Experiment, checkpoint: Path | None) -> dict[str, Any]:
        """What the ranks compare: what this node was told, and what it has itself found on its volume."""
        state = None if checkpoint is None else checkpoints.read_state(checkpoint)
        step = 0 if state is None else state.get("global_step")
        return replace(self, digest=digest_of(experiment)).document() | {"step": step}


def digest_of(experiment: Experiment) -> str:
    """One digest for configuration and contents."""
    return files.sha256_of_json(experiment.document())


def decide(run: Run, experiment: Experiment, *, attempt: int, pod: str, nodes: int) -> Start:
    """Choose the newest usable checkpoint and make the attempt's directory; marks the damaged ones. Node rank 0 only.

    Raises OSError for a volume in trouble: a checkpoint that cannot be read now is not taken for a missing one. Raises
    StageError DiskFull when the next checkpoint would not fit beside the newest, which is deleted after it only.
    """
    train_directory = run.run_directory / "train"
    newest, passed_over = checkpoints.newest(train_directory, experiment)
    for one in passed_over:
        log(f"warning: {one.path.parent.name}/{one.path.name} is not used: {one.why}")
        if one.damaged and not (one.path / manifests.UNUSABLE).exists():
            manifests.mark(one.path, one.why)
    told = Start(pod, run.owner.uid, attempt, digest_of(experiment), output="")
    if newest is not None:
        told = replace(told, checkpoint=str(newest.path.relative_to(run.run_directory)), step=newest.step)
    if newest is not None and newest.finished:
        log(
            f"{newest.name} has all that was to be trained (step {newest.step} of {newest.max_steps}): it is the result"
        )
        return replace(told, output=str(newest.path.parent.relative_to(run.run_directory)), finished=True)
    if newest is not None:  # else nobody knows yet how large one is; held accelerators would train as far as to a save
        space.require(
            train_directory, manifests.size(newest.path), "the next checkpoint needs", _of_no_use(passed_over)
        )
    output = checkpoints.begin(train_directory, attempt)
    files.write_json(
        output / checkpoints.ATTEMPT_FILE,
        experiment.document()
        | {"attempt": attempt, "nodes": nodes, "pod": pod, "begunAt": _now(), checkpoints.SEALED: True}
        | ({"resumeFrom": told.checkpoint, "resumeStep": told.step} if newest else {}),
    )
    if newest is None:
        adapter = run.model.adapter
        beside = "" if adapter is None else f" and the adapter of {adapter.name}"
        log(f"attempt {attempt} starts from the base model{beside}")
    else:
        log(f"attempt {attempt} resumes from {newest.name} of {newest.max_steps} steps")
        if run.tuning.pissa:
            _take_over(newest.path.parent / pissa.INITIAL, output / pissa.INITIAL)
    return replace(told, output=str(output.relative_to(run.run_directory)))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _of_no_use(folders: Iterable[checkpoints.PassedOver]) -> str:
    names = ", ".join(f"train/{one.path.parent.name}/{one.path.name}" for one in folders)
    return f" Of no use, and free to be deleted once no pod of an earlier attempt runs: {names}." if names else ""


def _take_over(initial: Path, target: Path) -> None:
    """Copy an initial adapter. Raises InvalidConfig when a link of somebody else's would have other files copied."""
    if initial.is_symlink() or any(path.is_symlink() for path in initial.iterdir()):
        raise invalid_config(f"In {initial} are symbolic links, and no training makes any: put the files there.")
    shutil.copytree(initial, target)


class Answer:
    """What the pod of node rank 0 answers to the others: nothing before all have asked, so that all begin together.

    torchrun waits ten minutes for the others, and the image of one may take longer. A pod that was asked to stop sends
    nobody on a way any more. Who is no pod of this attempt of this owner's run neither counts nor hears anything. Each
    answer tells the version of this image; a pod with another one does not count (ADR 0185).
    """

    def __init__(self, nodes: int, owner: str, attempt: int, is_stopping: Callable[[], bool]) -> None:
        self._owner, self._attempt, self._is_stopping = owner, attempt, is_stopping
        self._start: Start | None = None
        self._missing = set(range(1, nodes))
        self._others: dict[int, str] = {}  # versions of other images, by the rank of the node
        self._unknown: dict[int, str] = {}  # addresses that have asked as images of 0.2.0 do, in the name of a node

    def tell(self, start: Start) -> None:
        """From now on the others get to know where to start."""
        self._start = start

    def missing(self) -> list[int]:
        """The node ranks that have not asked yet."""
        return sorted(self._missing)

    def require_one_image(self, is_of: Callable[[str, int], bool]) -> None:
        """Raises StageError StartMismatch when a node has another image. `is_of` knows the addresses of node ranks.

        Images of 0.2.0 do not tell whose pods they are: their word is taken at the address of the pod alone.
        """
        for node, version in sorted(self._others.items()):
            raise other_image(node, version)
        for node, address in sorted(self._unknown.items()):
            if node in self._missing and is_of(address, node):
                raise other_image(node, "")

    def __call__(self, query: str, client: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and document for the question in a query that comes from the address `client`."""
        question = Question.read(query)
        if question is None or (question.owner, question.attempt) != (self._owner, self._attempt):
            name, _, rank = query.partition("=")
            if name == "node" and rank.isdecimal() and int(rank) in self._missing:
                self._unknown[int(rank)] = client
            return 403, {}
        if question.version != __version__ and question.node in self._missing:
            self._others[question.node] = question.version
        else:
            self._missing.discard(question.node)
        if self._is_stopping():
            return 503, _told({"state": "stopping"})
        if self._start is None or (self._missing and not self._start.finished):
            return 503, _told({"state": "starting"})
        return 200, _told(self._start.document())


def _told(document: dict[str, Any]) -> dict[str, Any]:
    return document | {VERSION_KEY: __version__}


def other_image(node: int, version: str) -> StageError:
    """The pods of a gang have different images, of which a node or, for that node, node rank 0 has this version."""
    return StageError(
        "StartMismatch",
        f"Between this pod and node rank {node} the version of the trainer image differs: {__version__} here, there "
        f"{version[:40] or '0.2.0 or an earlier one'}. So nothing was trained. The tag of the image means different "
        "images on different nodes: name it by its digest, or set spec.worker.imagePullPolicy: Always.",
    )
