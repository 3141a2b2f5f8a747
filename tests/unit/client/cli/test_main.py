"""How commands end: exit codes, one sentence of what is wrong, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwensft.cli import main, output
from qwensft.cli.documents import read
from qwensft.cli.failures import CommandError

from .conftest import REPOSITORY, Cli

EXAMPLE = REPOSITORY / "examples" / "minimal.yaml"

USAGE = (
    (("chekc", "job.yaml"), "No such command 'chekc'"),
    (("check",), "Missing argument 'FILE'"),
    (("check", "job.yaml", "--nonsense"), "No such option: --nonsense"),
    (("check", "nothing.yaml"), "there is no file nothing.yaml; make one with: qwensft init"),
    (("check", "."), ". is a directory; name a file in it"),
    (("init", "--rows", "."), ". is a directory: --rows names the file with the rows"),
    (("check", str(EXAMPLE), "--rows", "support=."), "--rows support=.: . is a directory; name a file in it"),
    (("preview", str(EXAMPLE), "--model", "."), "--model .: there is no config.json in it; name the folder of"),
    (("estimate",), "name a FILE, or a model"),
)


@pytest.mark.parametrize(("arguments", "said"), USAGE)
def test_a_command_that_is_not_understood(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {said}")
    assert ended.err.count("\n") == 1


BROKEN = (
    ("kind: QwenSFTJob\nspec: {a: [}\n", "job.yaml, line 2: "),
    ("kind: QwenSFTJob\nspec: 1\nspec: 2\n", "job.yaml, line 1: the key spec stands twice"),
    ("kind: QwenSFTjob\n", "job.yaml has no QwenSFTJob in it, but QwenSFTjob; make one with: qwensft init"),
    ("", "job.yaml has no QwenSFTJob in it; make one"),
    ("- 1\n", "job.yaml: each document must be an object"),
)


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_file_that_is_not_understood(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    ended = cli("check", "job.yaml")
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_rows_in_the_place_of_a_job_are_told(cli: Cli, tmp_path: Path) -> None:
    for name, text in (("rows.jsonl", '{"a": 1}\n{"a": 2}\n'), ("rows.json", '[{"a": 1}]')):
        (tmp_path / name).write_text(text)
        ended = cli("check", name)
        assert (ended.code, ended.err.endswith("; FILE is a job: rows are named by --rows DATASET=FILE\n")) == (2, True)


def test_numbers_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("kind: QwenSFTJob\nspec: {rate: 1e-4, day: 2026-11-30}\n")
    assert read(str(path)).jobs[0]["spec"] == {"rate": 1e-4, "day": "2026-11-30"}


def test_help_is_asked_for_by_saying_nothing(cli: Cli) -> None:
    ended = cli()
    assert ended.code == 0
    assert all(f"\n  {command} " in ended.out for command in ("init", "check", "submit", "status", "list", "why"))
    assert not set(ended.out) & set("╭│╰")


def test_a_fault_is_one_sentence_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("qwensft.cli.documents.read", broken)
    ended = cli("check", "job.yaml")
    assert ended.code == 70
    assert ended.err.startswith("error: ZeroDivisionError: division by zero; this is a fault of qwensft")


def test_a_failure_is_one_line_that_steers_no_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise CommandError("denied by a webhook:\n  \x1b[2Jlook\r\nthere", 3)

    monkeypatch.setattr("qwensft.cli.documents.read", refused)
    assert cli("check", "job.yaml").err == "error: denied by a webhook: �[2Jlook there\n"


def test_debugging_changes_no_exit_code(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise PermissionError(13, "Permission denied", "job.yaml")

    monkeypatch.setattr("qwensft.cli.documents.read", broken)
    assert cli("check", "job.yaml").code == 2
    monkeypatch.setenv("QWENSFT_DEBUG", "1")
    assert main.run(["check", "job.yaml"]) == 2


def test_ctrl_c_is_no_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qwensft.cli.documents.read", interrupted)
    assert cli("check", "job.yaml").code == 130


def test_without_typer_the_extra_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer.main", None)
    ended = cli("list")
    assert (ended.code, "pip install 'qwensft[cli]'" in ended.err) == (4, True)


def test_what_a_start_imports() -> None:
    """Start-up under half a second: nothing of the API, the client or rich is imported for --help."""
    code = (
        "import json, sys\nfrom qwensft.cli.main import run\nrun(['--help'])\n"
        "slow = ('pydantic', 'kubernetes', 'rich', 'yaml', 'plotext', 'qwensft_operator', 'qwensft_trainer')\n"
        "print(json.dumps([name for name in slow if name in sys.modules]))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout.splitlines()[-1]) == []


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    terminal: object = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint_for(terminal).on  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.paint_for(terminal).on  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.is_terminal(terminal)  # type: ignore[arg-type]
    assert not output.paint_for(sys.stdout).on


def test_as_a_plugin_it_is_called_as_kubectl_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-qwensft"])
    assert main._program() == "kubectl qwensft"
    assert CommandError("x").code == 2
