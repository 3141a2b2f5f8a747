"""Running programs, with their output kept for the error message or in a log, and kubectl with JSON answers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from quickstart.parts import GrowingLog, part_begun
from quickstart.steps import Begin, QuickstartError

REPOSITORY = Path(__file__).resolve().parents[1]
SHOWN_LINES = 30
SECONDS_BETWEEN_LOOKS = 0.1


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it printed on standard output.

    Raises QuickstartError with the last lines when the program fails or is missing, or when `timeout` seconds have
    passed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=REPOSITORY, env=env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise _missing(words) from error
    except subprocess.TimeoutExpired as error:
        raise QuickstartError(f"`{_shown(words)}` did not finish within {timeout:.0f} seconds") from error
    if done.returncode != 0:
        raise _failed(words, done.returncode, done.stderr or done.stdout)
    return done.stdout


def _nobody(_: str) -> None:
    """Nobody wants to know."""


def run_logged(command: Sequence[str | Path], log: Path, begin: Begin = _nobody) -> None:
    """Run a program whose output and errors go to a file, and tell of each part of its work that it says it begins.

    Raises QuickstartError with the last lines when the program fails or is missing.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    # By way of the file, not of a pipe: what the program leaves running may keep its output open.
    with log.open("w") as output, GrowingLog(log) as written:
        try:
            process = subprocess.Popen(words, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
        except FileNotFoundError as error:
            raise _missing(words) from error
        with process:
            try:
                while process.poll() is None:
                    _tell(written, begin)
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            except BaseException:
                process.kill()
                raise
        _tell(written, begin)
    if process.returncode != 0:
        raise _failed(words, process.returncode, log.read_text(errors="replace"), f"\nthe whole log: {log}")


def _tell(written: GrowingLog, begin: Begin) -> None:
    for line in written.new_lines():
        if part := part_begun(line):
            begin(part)


def _shown(words: list[str]) -> str:
    return " ".join(words[:6]) + (" …" if len(words) > 6 else "")


def _missing(words: list[str]) -> QuickstartError:
    return QuickstartError(f"`{words[0]}` is not installed, or not in PATH")


def _failed(words: list[str], code: int, output: str, where: str = "") -> QuickstartError:
    tail = "\n".join(output.strip().splitlines()[-SHOWN_LINES:])
    return QuickstartError(f"`{_shown(words)}` failed with exit code {code}:\n{tail}{where}")


class Kubectl:
    """kubectl on one cluster. `env` is the environment it runs in (KUBECONFIG, PATH)."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(os.environ if env is None else env)

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        """Run `kubectl arguments…` and return its output; raises QuickstartError."""
        return run(["kubectl", *arguments], env=self.env, stdin=stdin, timeout=timeout)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return `kubectl get arguments… -o json`; empty when there is no such object."""
        answer = self("get", *arguments, "--ignore-not-found", "-o", "json")
        return dict(json.loads(answer)) if answer.strip() else {}

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the items of a list, such as `items("pods", "-n", "x", "-l", "a=b")`."""
        return list(self.get(*arguments).get("items", []))

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply manifests server-side: no size limit by an annotation, and safe to repeat."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        self("apply", "--server-side", "--force-conflicts", "--field-manager", "quickstart", "-f", "-", stdin=text)

    def delete(self, *arguments: str, timeout_seconds: int = 600) -> None:
        """Delete objects and wait until they are gone; not an error when there are none."""
        limit = f"--timeout={timeout_seconds}s"
        self("delete", *arguments, "--ignore-not-found", "--wait", limit, timeout=timeout_seconds + 30)
