"""Commands of the documents: each block says how it is tested, and those that need nothing but files are run here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.docs.shell_blocks import PAGES, REPOSITORY, Block, blocks, copy_of_repository, script

BLOCKS = [block for page in PAGES for block in blocks(page)]
WITH_FILES = [page for page in PAGES if script(page, "run: files")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page.relative_to(REPOSITORY)}:{block.line}")
def test_a_block_says_how_it_is_tested(block: Block) -> None:
    assert re.fullmatch(r"run: (files|cluster|client|cli)|not run: \S.{9,}", block.mark), (
        "put <!-- run: files -->, <!-- run: cluster -->, <!-- run: client -->, <!-- run: cli --> or "
        "<!-- not run: why --> above it (docs/adr/0165, docs/adr/0188, docs/adr/0197)"
    )


def test_there_are_blocks_of_each_kind() -> None:
    assert {block.mark.partition(":")[0] for block in BLOCKS} == {"run", "not run"}
    assert WITH_FILES


def test_a_block_is_found_with_its_mark_and_line_wherever_it_stands(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n<!-- run: files -->\n```sh\ntrue\n```\n\n1. B\n\n    ```bash\n    false\n    ```\n", encoding="utf-8"
    )
    assert blocks(page) == [Block(page, 3, "run: files", "true\n"), Block(page, 10, "", "false\n")]


def test_a_script_stops_at_the_first_failure_and_names_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    fence = "<!-- run: files -->\n```sh\n{}\n```\n"
    page.write_text(fence.format("echo one") + fence.format("false | cat") + fence.format("echo two"), encoding="utf-8")
    done = subprocess.run(["bash", "-c", script(page, "run: files")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "one\n")
    assert "failed: the block at page.md:5" in done.stderr


@pytest.mark.parametrize("page", WITH_FILES, ids=lambda page: page.stem)
def test_commands_that_need_files_alone_succeed(page: Path, tmp_path: Path) -> None:
    text = script(page, "run: files")
    tools = subprocess.run(
        [REPOSITORY / "local-cluster" / "cluster", "bin"], capture_output=True, text=True, check=True
    ).stdout.strip()
    paths = (str(Path(sys.executable).parent), f"{tools}/tools", os.environ["PATH"])  # qwensft, helm
    environment = os.environ | {"PATH": os.pathsep.join(paths), "HOME": str(tmp_path / "home")}
    for program in ("helm", "kubectl"):
        if f"{program} " in text and not shutil.which(program, path=environment["PATH"]):
            pytest.skip(f"{program} is missing: `make setup` builds it")
    repository = copy_of_repository(tmp_path / "repository", {"charts", "examples", "crds", "deploy", "gitops"})
    done = subprocess.run(
        ["bash", "-c", text], cwd=repository, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "a command that shows nothing teaches nothing"
