"""Every kind of bad checkpoint: the next older one is taken and the reason told, nothing good goes, nothing hangs.

`KINDS` is a generator of folders as faults, other programs and other people leave them. Each stands above a good older
checkpoint of the same run.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwensft_trainer.base import files
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.training import checkpoints, manifests, progress
from qwensft_trainer.training.manifests import MANIFEST

OURS = Experiment("uid-1", "sha256:same", None)
SHARDS = {f"global_step{{step}}/zero_rank_{rank}.pt": bytes([rank]) * 70_000 for rank in range(2)}
FILES = {"optimizer.pt": b"optimizer", "rng_state_0.pth": b"random 0", "rng_state_1.pth": b"random 1", **SHARDS}


def checkpoint(root: Path, attempt: int, step: int, *, max_steps: int = 100) -> Path:
    """A good one, of two ranks."""
    folder = root / str(attempt) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder.parent / "attempt.json").write_text(json.dumps(OURS.document() | {"sealed": True}))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": max_steps}))
    for name, content in FILES.items():
        path = folder / name.format(step=step)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    manifests.seal(folder)
    return folder


def state(text: str) -> Callable[[Path], object]:
    """Another trainer_state.json, which the list knows of."""

    def make(folder: Path) -> None:
        (folder / "trainer_state.json").write_text(text)
        manifests.seal(folder)

    return make


def listed(**changes: object) -> Callable[[Path], object]:
    """A list of files with other entries."""

    def make(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(document | changes))

    return make


def in_place_of(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else under the name of a file."""

    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


def exchange(folder: Path, one: str, other: str) -> None:
    """Two files of ranks under each other's names."""
    (folder / one).rename(folder / "between")
    (folder / other).rename(folder / one)
    (folder / "between").rename(folder / other)


def sparse(path: Path) -> None:
    """A file of a TiB that takes no place."""
    path.touch()
    os.truncate(path, 1 << 40)


def listening(path: Path) -> None:
    """A socket, whose name here is short enough for one."""
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


ELSEWHERE = Path("/etc/hostname")
_SHARD = "global_step60/zero_rank_1.pt"
UNFINISHED = "saving it was never completed"
STATE = "trainer_state.json is missing or cut off"
OTHER_STATE = "trainer_state.json is not of this checkpoint"
ODD_LIST = "qwensft-checkpoint.json is not what was written"

# What happens to checkpoint-60, and what is told of it.
KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file cut off": (lambda f: os.truncate(f / "optimizer.pt", 4), "optimizer.pt has 4 of 9 bytes"),
    "a file of no bytes": (lambda f: os.truncate(f / _SHARD, 0), f"{_SHARD} has 0 of 70000 bytes"),
    "a file that grew": (lambda f: os.truncate(f / _SHARD, 70_001), f"{_SHARD} has 70001 of 70000 bytes"),
    "a file wiped by its disk": (
        lambda f: (f / "optimizer.pt").write_bytes(bytes(9)),
        "optimizer.pt does not hold what was written",
    ),
    "the end of a file wiped": (
        lambda f: (f / _SHARD).write_bytes(bytes([1]) * 69_000 + bytes(1000)),
        f"{_SHARD} does not hold what was written",
    ),
    "a missing file": (lambda f: (f / "rng_state_1.pth").unlink(), "rng_state_1.pth is missing"),
    "random states exchanged between ranks": (
        lambda f: exchange(f, "rng_state_0.pth", "rng_state_1.pth"),
        "rng_state_0.pth does not hold what was written",
    ),
    "shards exchanged between ranks": (
        lambda f: exchange(f, _SHARD, "global_step60/zero_rank_0.pt"),
        "global_step60/zero_rank_0.pt does not hold what was written",
    ),
    "a shard of another checkpoint": (
        lambda f: (f / _SHARD).write_bytes(bytes([7]) * 70_000),
        f"{_SHARD} does not hold what was written",
    ),
    "no list": (lambda f: (f / MANIFEST).unlink(), UNFINISHED),
    "a list cut off": (lambda f: os.truncate(f / MANIFEST, 20), UNFINISHED),
    "a list of no bytes": (lambda f: os.truncate(f / MANIFEST, 0), UNFINISHED),
    "a list in bytes of no text": (lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe{"), UNFINISHED),
    "an endless list": (in_place_of(MANIFEST, sparse), UNFINISHED),
    "a list nested without end": (lambda f: (f / MANIFEST).write_text("[" * 200_000), UNFINISHED),
    "a list that is a number": (lambda f: (f / MANIFEST).write_text("7"), UNFINISHED),
    "a list without files": (lambda f: (f / MANIFEST).write_text("{}"), ODD_LIST),
    "files in a list": (listed(files=["optimizer.pt"]), ODD_LIST),
    "sizes in words": (listed(files={"optimizer.pt": "nine"}), ODD_LIST),
    "ends in numbers": (listed(ends={"optimizer.pt": 9}), ODD_LIST),
    "a list of a file elsewhere": (listed(files={"../../../elsewhere": 9}, ends={}), "../../../elsewhere is missing"),
    "a list that is a directory": (in_place_of(MANIFEST, Path.mkdir), UNFINISHED),
    "a list that is a pipe": (in_place_of(MANIFEST, os.mkfifo), UNFINISHED),
    "a state that is a pipe": (in_place_of("trainer_state.json", os.mkfifo), STATE),
    "a state that is a directory": (in_place_of("trainer_state.json", Path.mkdir), STATE),
    "an endless state": (in_place_of("trainer_state.json", sparse), STATE),
    "a state that is a link": (
        in_place_of("trainer_state.json", lambda p: p.symlink_to(p.parent.parent.parent / "state.json")),
        "trainer_state.json is no file but a symbolic link",
    ),
    "a state of another step": (state('{"global_step": 40, "max_steps": 100}'), OTHER_STATE),
    "a state of words": (state('{"global_step": 60, "max_steps": "100"}'), OTHER_STATE),
    "a state with another history": (
        state('{"global_step": 60, "max_steps": 100, "log_history": [7]}'),
        OTHER_STATE,
    ),
    "a link to a file elsewhere": (
        in_place_of("optimizer.pt", lambda p: p.symlink_to(ELSEWHERE)),
        "optimizer.pt is no file but a symbolic link",
    ),
    "a link that leads nowhere": (
        in_place_of("optimizer.pt", lambda p: p.symlink_to("nowhere")),
        "optimizer.pt is no file but a symbolic link",
    ),
    "a link beside what is listed": (
        lambda f: (f / "scheduler.pt").symlink_to(ELSEWHERE),
        "scheduler.pt is no file but a symbolic link",
    ),
    "a folder that is a link": (
        lambda f: (f / "more").symlink_to("/etc"),
        "more is no file but a symbolic link",
    ),
    "a pipe in place of a file": (in_place_of("optimizer.pt", os.mkfifo), "optimizer.pt is no file"),
    "a pipe beside what is listed": (lambda f: os.mkfifo(f / "scheduler.pt"), "scheduler.pt is no file"),
    "a socket in place of a file": (in_place_of("optimizer.pt", listening), "optimizer.pt is no file"),
    "a directory in place of a file": (in_place_of("optimizer.pt", Path.mkdir), "optimizer.pt is missing"),
}  # fmt: skip


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """The directory of the attempts; beside it a state to which a link may lead."""
    (tmp_path / "state.json").write_text('{"global_step": 60, "max_steps": 100}')
    return tmp_path / "train"


@pytest.mark.parametrize(("make", "told"), KINDS.values(), ids=KINDS)
@pytest.mark.timeout(20)
def test_the_next_older_checkpoint_is_taken_and_the_reason_told(
    train: Path, tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    good, bad = checkpoint(train, 1, 40), checkpoint(train, 2, 60)
    (train / "state.json").write_bytes((tmp_path / "state.json").read_bytes())
    make(bad)
    chosen, passed_over = checkpoints.newest(train, OURS)
    assert chosen is not None
    assert chosen.path == good
    assert [(one.path, one.why) for one in passed_over] == [(bad, told)]
    assert checkpoints.best_of(train, {"best_model_checkpoint": f"/x/2/{bad.name}"}) is None


@pytest.mark.parametrize(("make", "told"), KINDS.values(), ids=KINDS)
@pytest.mark.timeout(20)
def test_nothing_good_is_deleted_for_a_bad_one_and_a_bad_one_is_deleted_in_its_turn(
    train: Path, make: Callable[[Path], object], told: str
) -> None:
    good, bad = checkpoint(train, 1, 40), checkpoint(train, 2, 60)
    make(bad)
    if told in (UNFINISHED, STATE, OTHER_STATE):
        assert checkpoints.remove_superseded(bad.parent, 1) == []
        assert manifests.damage(good) is None
    checkpoint(train, 3, 80)
    assert set(checkpoints.remove_superseded(train / "3", 1)) == {good, bad}
    assert not bad.exists()


@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc"), listening],
    ids=["a file", "a pipe", "an empty directory", "a link", "a socket"],
)
@pytest.mark.timeout(20)
def test_what_only_has_the_name_of_a_checkpoint_or_an_attempt_is_none(
    train: Path, make: Callable[[Path], object]
) -> None:
    good = checkpoint(train, 1, 40)
    make(train / "1" / "checkpoint-60")
    make(train / "7")
    chosen, _ = checkpoints.newest(train, OURS)
    assert chosen is not None
    assert chosen.path == good
    last = checkpoint(train, 2, 80)
    assert good in checkpoints.remove_superseded(last.parent, 1)
    assert checkpoints.begin(train, 7).name == "7.2"


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_checkpoint_of_another_number_of_ranks_is_another_experiment_s_where_ranks_count(
    train: Path, ranks: int
) -> None:
    """With DeepSpeed they are part of the configuration, and so of its digest (ADR 0122)."""
    checkpoint(train, 1, 60)
    ours = Experiment("uid-1", f"sha256:{'same' if ranks == 2 else 'with 4 ranks'}", None)
    assert (checkpoints.newest(train, ours)[0] is not None) == (ranks == 2)


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, number: int, at: str) -> Iterator[None]:
    """Opening or looking at files with a name fails, as on a volume in trouble."""

    def fails(original: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *arguments: object, **named: object) -> object:
            if str(path).endswith(at):
                raise OSError(number, os.strerror(number), str(path))
            return original(path, *arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails(os.open))
        patch.setattr(Path, "open", fails(Path.open))
        patch.setattr(Path, "lstat", fails(Path.lstat))
        yield


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT])
@pytest.mark.parametrize("at", ["trainer_state.json", MANIFEST, "optimizer.pt", "attempt.json"])
def test_a_volume_in_trouble_is_an_error_and_marks_nothing(
    train: Path, monkeypatch: pytest.MonkeyPatch, number: int, at: str
) -> None:
    folders = [checkpoint(train, 1, 40), checkpoint(train, 2, 60)]
    with failing(monkeypatch, number, at), pytest.raises(OSError, match=os.strerror(number)):
        checkpoints.newest(train, OURS)
    assert [manifests.damage(folder) for folder in folders] == [None, None]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_save_that_the_volume_ends_leaves_the_older_checkpoint(
    train: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Full, read-only for a while, or broken when the list is written. Afterwards the training goes on as it was."""
    good, half = checkpoint(train, 1, 40), checkpoint(train, 2, 60)
    (half / MANIFEST).unlink()

    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=os.strerror(number)):
            manifests.seal(half)
    assert sorted(path.name for path in half.iterdir() if path.name.endswith(".tmp")) == []
    assert checkpoints.remove_superseded(half.parent, 1) == []
    chosen, _ = checkpoints.newest(train, OURS)
    assert chosen is not None
    assert chosen.path == good


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")
def test_what_may_not_be_read_is_an_error_of_its_own() -> None:
    """As another user, whom the permissions hold; root is held by none."""
    with tempfile.TemporaryDirectory() as directory:
        train = Path(directory) / "train"
        folder = checkpoint(train, 1, 40)
        for path in (*folder.rglob("*"), *folder.parents[:3], folder, folder.parent / "attempt.json"):
            os.chown(path, 65534, 65534)
        (folder / "optimizer.pt").chmod(0)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                checkpoints.newest(train, OURS)
            except PermissionError as error:
                os.write(writing, str(error.filename).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as told:
            assert told.read() == str(folder / "optimizer.pt")


def test_no_log_of_an_attempt_is_waited_for(tmp_path: Path) -> None:
    """Its checkpoint is gone on from without."""
    folder = checkpoint(tmp_path, 1, 40)
    os.mkfifo(tmp_path / "1" / "trainer_log.jsonl")
    progress.continue_log(folder, tmp_path / "2")
    assert not (tmp_path / "2").exists()


def test_reading_json_takes_what_is_no_file_for_none(tmp_path: Path) -> None:
    makers: dict[str, Callable[[Path], object]] = {"pipe": os.mkfifo, "directory": Path.mkdir, "endless": sparse}
    for name, make in makers.items():
        make(tmp_path / name)
        assert files.read_json_object(tmp_path / name) is None
    assert files.read_json_object(Path("/dev/zero")) is None
