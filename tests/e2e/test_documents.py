"""Commands of the documents that need a cluster: all of a page in one shell, as somebody would type them.

A page works in a namespace of its own, by a copy of the kubeconfig, so that it may set the namespace of its context.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from quickstart.cluster import choose
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE, Ready
from tests.unit.docs.shell_blocks import PAGES, REPOSITORY, script

NAMESPACE = "qwensft-docs"
OF_PAGES = ("sft-tutorial",)  # those that pages make themselves
OF_QUICKSTART = "qwensft-quickstart"  # the README's; what `make quickstart` has left there stays
ON_A_CLUSTER = [page for page in PAGES if script(page, "run: cluster")]
PAGE_TIMEOUT = 1800.0


@pytest.fixture
def environment(ready: Ready, tmp_path: Path) -> Iterator[dict[str, str]]:
    variables = choose().environment()
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(variables.get("KUBECONFIG", Path.home() / ".kube" / "config"), kubeconfig)
    variables |= {
        "KUBECONFIG": str(kubeconfig),
        "OPERATOR_IMAGE": ready.images.operator,
        "TRAINER_IMAGE": ready.images.trainer,
        "TINY_MODEL_IMAGE": ready.images.tiny_model,
    }
    for name in (NAMESPACE, *OF_PAGES):
        ready.kubectl.delete("namespace", name)
    kept = ready.kubectl.get("namespace", OF_QUICKSTART)
    before = _revision(variables)
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], env=variables, check=True)
    subprocess.run(
        ["kubectl", "config", "set-context", "--current", "--namespace", NAMESPACE], env=variables, check=True
    )
    yield variables
    for name in (NAMESPACE, *OF_PAGES, *([] if kept else [OF_QUICKSTART])):
        ready.kubectl.delete("namespace", name)
    if _revision(variables) != before:  # other tests expect the values that `make setup` has set
        subprocess.run(
            ["helm", "rollback", RELEASE, str(before), "--namespace", SYSTEM_NAMESPACE, "--wait"],
            env=variables, check=True,
        )  # fmt: skip


def _revision(variables: dict[str, str]) -> int:
    """The release's newest revision."""
    shown = subprocess.run(
        ["helm", "history", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--max", "1", "--output", "json"],
        env=variables, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return int(json.loads(shown)[-1]["revision"])


@pytest.mark.parametrize("page", ON_A_CLUSTER, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_commands_of_a_page_succeed(page: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", script(page, "run: cluster")], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        timeout=PAGE_TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
