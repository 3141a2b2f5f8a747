"""Pods that share a volume take turns, also when one of them is killed in the middle."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from qwensft_trainer.base.lease import Lease, LeaseLost

from ..waiting import eventually

# LONG outlasts every pause of a busy machine. SHORT is for those whose end is waited for: a living holder keeps it.
LONG, SHORT = 60.0, 2.0


def make(path: Path, owner: str = "team/a", lease: float = LONG) -> Lease:
    return Lease(path / ".model.lock", owner, beat=0.05, lease=lease, poll=0.02)


def never() -> bool:
    return False


def numbers(path: Path) -> list[int]:
    return sorted(
        int(entry.name.rpartition(".")[2]) for entry in path.iterdir() if entry.name.startswith(".model.lock")
    )


def test_the_first_one_gets_it_at_once(tmp_path: Path) -> None:
    with make(tmp_path) as lease:
        assert lease.acquire(never)
        assert json.loads((tmp_path / ".model.lock.1").read_text())["owner"] == "team/a"
        lease.check()


def test_a_released_lease_is_taken_at_once(tmp_path: Path) -> None:
    with make(tmp_path) as first:
        assert first.acquire(never)
    begun = time.monotonic()
    with make(tmp_path) as second:
        assert second.acquire(never)
    assert time.monotonic() - begun < LONG / 2
    assert numbers(tmp_path) == [2]


def test_it_is_released_when_the_work_fails(tmp_path: Path) -> None:
    def work() -> None:
        with make(tmp_path) as first:
            first.acquire(never)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        work()
    with make(tmp_path) as second:
        assert second.acquire(never)


def test_a_live_holder_is_waited_for_however_long_it_takes(tmp_path: Path) -> None:
    with make(tmp_path) as first:
        first.acquire(never)
        deadline = time.monotonic() + 2 * SHORT
        with make(tmp_path, "team/b", SHORT) as second:
            assert not second.acquire(lambda: time.monotonic() > deadline)
        first.check()


def test_nobody_waits_when_there_is_nothing_left_to_do(tmp_path: Path) -> None:
    with make(tmp_path) as lease:
        assert not lease.acquire(lambda: True)
    assert numbers(tmp_path) == []


def test_work_that_was_finished_just_before_the_lease_was_taken_is_not_done_again(tmp_path: Path) -> None:
    looks = iter([False, True])
    with make(tmp_path) as lease:
        assert not lease.acquire(lambda: next(looks))
    with make(tmp_path, "team/b") as other:
        assert other.acquire(never)


def test_those_who_wait_learn_who_is_at_it_and_how_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Lease(tmp_path / ".model.lock", "team/a", note=lambda: "3.1 of 16.4 GiB", beat=0.01, lease=LONG, poll=0.02)
    with first:
        first.acquire(never)
        eventually(lambda: "3.1 of 16.4 GiB" in (tmp_path / ".model.lock.1").read_text())
        nothing_left = iter((False, True))
        assert not make(tmp_path).acquire(lambda: next(nothing_left))
    assert "waiting for team/a, which is at it (3.1 of 16.4 GiB)" in capsys.readouterr().out


def hold_and_die(path: Path) -> None:
    lease = make(path, "team/killed")
    lease.acquire(never)
    (path / "held").touch()
    time.sleep(60)


def killed_holder(path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=hold_and_die, args=(path,))
    process.start()
    while not (path / "held").exists():
        time.sleep(0.01)
    process.kill()
    process.join()


def test_a_killed_holder_is_followed_after_the_lease(tmp_path: Path) -> None:
    killed_holder(tmp_path)
    begun = time.monotonic()
    with make(tmp_path, lease=SHORT) as lease:
        assert lease.acquire(never)
        assert time.monotonic() - begun >= SHORT
        assert numbers(tmp_path) == [2]


def test_a_holder_killed_before_its_first_word_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / ".model.lock.1").touch()
    with make(tmp_path, lease=SHORT) as lease:
        assert lease.acquire(never)


def test_of_many_who_find_a_stale_lease_one_at_a_time_gets_it(tmp_path: Path) -> None:
    killed_holder(tmp_path)
    inside = 0
    most = 0
    taken: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal inside, most
        with make(tmp_path, name, SHORT) as lease:
            assert lease.acquire(never)
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            lease.check()
            with lock:
                inside -= 1
                taken.append(name)

    threads = [threading.Thread(target=work, args=(f"team/{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert len(taken) == 8


def test_a_holder_that_was_asleep_too_long_finds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = make(tmp_path, "team/asleep")
    sleeper.acquire(never)
    asleep = threading.Event()
    holds = sleeper._holds
    monkeypatch.setattr(sleeper, "_holds", lambda: not asleep.is_set() or holds())
    monkeypatch.setattr(sleeper, "_write", lambda _content: None)  # its heartbeat no longer reaches the volume
    with make(tmp_path, lease=SHORT) as other:
        assert other.acquire(never)
        asleep.set()
        assert sleeper.lost
        eventually(sleeper._lost.is_set)
        with pytest.raises(LeaseLost):
            sleeper.check()
        sleeper.release()
        other.check()


def test_a_number_that_others_have_used_up_meanwhile_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = make(tmp_path, "team/slow")
    with make(tmp_path) as first:
        first.acquire(never)
    seen = slow._newest()  # number 1, released; while it is looked at, two others come and go
    with make(tmp_path) as second:
        second.acquire(never)
    with make(tmp_path) as third:
        third.acquire(never)
        assert not slow._take(seen + 1)
        assert numbers(tmp_path) == [3]
        assert not third.lost


def test_files_of_other_names_do_not_matter(tmp_path: Path) -> None:
    for name in (".model.lock.7.tmp", ".other.lock.9", ".model.lock.", "model.lock.3"):
        (tmp_path / name).touch()
    with make(tmp_path) as lease:
        assert lease.acquire(never)
        assert (tmp_path / ".model.lock.1").exists()


def test_other_users_of_the_group_may_take_over(tmp_path: Path) -> None:
    previous = os.umask(0o002)
    try:
        with make(tmp_path) as lease:
            lease.acquire(never)
            assert (tmp_path / ".model.lock.1").stat().st_mode & 0o060 == 0o060
    finally:
        os.umask(previous)
