"""Nobody waits before a silent screen: each part of a build is a line when it ends. The builders are real processes."""

import contextlib
import functools
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quickstart import steps
from quickstart.parts import part_begun
from quickstart.shell import REPOSITORY, run_logged
from quickstart.steps import Begin, QuickstartError, Steps, together

# As the tools print: local-cluster/, buildah, and much that is neither.
BUILDAH = """
import sys, time
print("== step: Debian bookworm with Python")
print("  Debian bookworm with Python                  ", end="", flush=True)
time.sleep(0.3)
print("0.3s")
print("[1/2] STEP 1/7: FROM localhost/qwensft/base:bookworm AS build")
print("--> Using cache 9a6d8115cb1", flush=True)
print("[1/2] STEP 2/7: RUN set -eu;     pip install something", flush=True)
print("Collecting something", file=sys.stderr, flush=True)
time.sleep(0.3)
print("[2/2] COMMIT localhost/qwensft/operator:dev", flush=True)
time.sleep(0.3)
"""
FAILING = """
import sys, time
print("== step: [3/17] compiling kubelet", flush=True)
time.sleep(0.3)
sys.exit("kubelet.go:1: no")
"""


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SHORTEST_PART", 0.2)


def build(script: str, log: Path, begin: Begin) -> None:
    run_logged([sys.executable, "-c", script], log, begin)


def without_times(printed: str) -> list[str]:
    """The lines with `0s`, `1s` and the like left out."""
    return [" ".join(word for word in line.split() if not word[0].isdigit()) for line in printed.splitlines()]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("== step: [3/17] compiling kubelet", "[3/17] compiling kubelet"),
        ("STEP 2/5: COPY a b", "STEP 2/5: COPY a b"),
        ("[1/2] STEP 3/7: RUN set -eu;     if x", "[1/2] STEP 3/7: RUN set -eu; if x"),
        ("COMMIT localhost/x:dev", "COMMIT localhost/x:dev"),
        ("STEP 1/2: RUN " + "x" * 100, "STEP 1/2: RUN " + "x" * 46),
        ("Collecting STEP 2/5: x", None),
        ("--> Using cache 9a6d8115cb1", None),
        ("== step:", None),
        ("", None),
    ],
)
def test_a_part_begins_where_the_tool_says_so(line: str, part: str | None) -> None:
    assert part_begun(line) == part


def test_a_log_gets_a_line_for_each_part_that_took_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(3).step("building the image") as step:
        build(BUILDAH, tmp_path / "log", step.task().begin)
    assert without_times(capsys.readouterr().out) == [
        "[1/3] building the image …",
        "Debian bookworm with Python …",
        "[1/2] STEP RUN set -eu; pip install something …",
        "[2/2] COMMIT localhost/qwensft/operator:dev …",
        "[1/3] building the image …",
    ]
    assert "Collecting something" in (tmp_path / "log").read_text()


def test_work_side_by_side_says_whose_part_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = {
        "images": functools.partial(build, BUILDAH, tmp_path / "images"),
        "Kubernetes": functools.partial(build, "import time; print('== step: etcd'); time.sleep(0.5)", tmp_path / "k"),
    }
    with Steps(1).step("building") as step:
        together(work, step.task)
    printed = without_times(capsys.readouterr().out)
    assert "Kubernetes: etcd …" in printed
    assert "images: Debian bookworm with Python …" in printed
    assert printed[-1].startswith("[1/1] building … (images: ")


def test_a_part_is_told_while_the_program_still_runs(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    # Ends with an error when nobody hears of it meanwhile.
    script = f"""if True:
        import os, sys, time
        print("== step: one", flush=True)
        until = time.monotonic() + 30
        while not os.path.exists({str(heard)!r}):
            time.sleep(0.05)
            if time.monotonic() > until:
                sys.exit("unheard")
    """
    build(script, tmp_path / "log", lambda part: heard.touch())


def test_a_long_part_is_heard_of_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "import time; print('== step: compiling kubelet', flush=True); time.sleep(2.5)"
    with Steps(2, silence=0.5).step("building") as step:
        build(script, tmp_path / "log", step.task("Kubernetes").begin)
    printed = without_times(capsys.readouterr().out)
    assert printed[:2] == ["[1/2] building … so far: compiling kubelet"] * 2
    assert printed[-2:] == ["Kubernetes: compiling kubelet …", "[1/2] building …"]


def test_a_step_without_parts_is_heard_of_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(1, silence=0.5).step("installing"):
        subprocess.run(["sleep", "1.3"], check=True)
    assert without_times(capsys.readouterr().out) == ["[1/1] installing … so far", "[1/1] installing …"]


def test_a_failure_names_the_part_and_shows_the_end_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = {"Kubernetes": functools.partial(build, FAILING, tmp_path / "log")}
    with (
        pytest.raises(QuickstartError, match=r"(?s)kubelet\.go:1: no.*the whole log: "),
        Steps(1).step("building") as step,
    ):
        together(work, step.task)
    printed = without_times(capsys.readouterr().out)
    assert printed == [
        "[1/1] building …",
        "Kubernetes: [3/17] compiling kubelet … failed after",
        "[1/1] building … failed after",
    ]


def test_what_a_program_leaves_running_holds_nobody_up(tmp_path: Path) -> None:
    """`cluster up` starts daemons; one that keeps its standard output would keep a pipe open for ever."""
    leaves = "import subprocess; subprocess.Popen(['sleep', '30'])"
    began = time.monotonic()
    build(leaves, tmp_path / "log", lambda part: None)
    assert time.monotonic() - began < 20


def test_the_local_clusters_scripts_announce_their_steps(tmp_path: Path) -> None:
    """The functions of local-cluster/ themselves, with a command that takes no time."""
    library = REPOSITORY / "local-cluster" / "lib" / "common.sh"
    script = f"""set -euo pipefail
    source {library}
    step "node ready"; step_done
    follow "compiling kubelet" {tmp_path}/follow.log true
    """
    began: list[str] = []
    run_logged(["bash", "-c", script], tmp_path / "log", began.append)
    assert began == ["node ready", "compiling kubelet"]


def test_a_terminal_shows_the_part_that_runs(tmp_path: Path) -> None:
    script = f"""if True:
        import sys
        from pathlib import Path
        from quickstart.shell import run_logged
        from quickstart.steps import Steps
        with Steps(1).step("building") as step:
            command = ["bash", "-c", "echo '== step: etcd'; sleep 2.5"]
            run_logged(command, Path({str(tmp_path / "log")!r}), step.task().begin)
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what Linux says when the other side has closed
            while chunk := os.read(ours, 1000):
                shown += chunk
    os.close(ours)
    assert process.returncode == 0
    assert "building … 2s so far: etcd 2s" in shown.decode()
