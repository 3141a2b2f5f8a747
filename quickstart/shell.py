"""Running programs: quietly with their output kept for the error message, and kubectl with JSON answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from quickstart.steps import QuickstartError

REPOSITORY = Path(__file__).resolve().parents[1]
SHOWN_LINES = 30


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it printed on standard output.

    With `log`, output and errors go to that file instead and the answer is empty. Raises QuickstartError with the last
    lines when the program fails or is missing, or when `timeout` seconds have passed.
    """
    words = [str(word) for word in command]
    shown = " ".join(words[:6]) + (" …" if len(words) > 6 else "")
    try:
        if log is None:
            done = subprocess.run(
                words,
                cwd=REPOSITORY,
                env=env,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            output, errors = done.stdout, done.stderr
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as file:
                done = subprocess.run(
                    words, cwd=REPOSITORY, env=env, input=stdin, stdout=file, stderr=subprocess.STDOUT,
                    text=True, timeout=timeout, check=False,
                )  # fmt: skip
            output, errors = "", "" if done.returncode == 0 else log.read_text(errors="replace")
    except FileNotFoundError as error:
        raise QuickstartError(f"`{words[0]}` is not installed, or not in PATH") from error
    except subprocess.TimeoutExpired as error:
        raise QuickstartError(f"`{shown}` did not finish within {timeout:.0f} seconds") from error
    if done.returncode != 0:
        tail = "\n".join((errors or output).strip().splitlines()[-SHOWN_LINES:])
        where = f"\nthe whole log: {log}" if log else ""
        raise QuickstartError(f"`{shown}` failed with exit code {done.returncode}:\n{tail}{where}")
    return output


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
