"""Recorded outputs: found on a page, written anew, and compared without what differs from time to time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cli.failures import FAILURES
from tests.cli.recording import COMMANDS, REPOSITORY, TUTORIAL, WHY
from tests.unit.docs import recorded_blocks
from tests.unit.docs.shell_blocks import PAGES, blocks

PAGE = """# A

<!-- run: cli -->
```sh
qwensft check job.yaml
```

<!-- recorded: check -->
```text
demo: ok
```

<!-- recorded: why -->
```text
demo in namespace team: Failed
```

<!-- run: cli -->
```sh
qwensft resume demo
```
"""
STATUS = """\
demo   Training   Qwen/Qwen3-8B, lora, CPU
  ✓ prepare  5s      200 samples, 40000 tokens
  ▸ train    1m44s
                     ██░░░░░░░░░░░░░░░░░░ 10 %   step 5/40   loss 1.45 from 2.00   9,005 tokens/s   59m50s left
"""
LATER = """\
demo   Training   Qwen/Qwen3-8B, lora, CPU
  ✓ prepare  12s     200 samples, 40000 tokens
  ▸ train    1h02m
                     ████░░░░░░░░░░░░░░░░ 20 %   step 9/40
"""
PAGE_OF_WHY = """\
demo in namespace team: Failed (InvalidDataset)
  pod demo-prepare-1-0-x7k2p exited with code 78: row 2: output is missing

Next
  mend it

Stages
  prepare  done 2m ago      attempt 1
  train    under way        attempt 1

Pods
  demo-prepare-1-0-x7k2p         Failed on local; trainer: Error, exit code 78

Events
  12s ago  Warning InvalidDataset: row 2
"""
FOLLOWED = """\
demo: submitted in namespace team
     0s  Pending     the operator has not looked at it yet
     0s  Preparing   checking and tokenising the rows
    12s  Preparing   checking and tokenising the rows
    20s  Training    starting the training pods
    31s  Training    ░░░░░░░░░░░░░░░░░░░░   0 %  step 1/21  loss 17.48
  1m17s  Succeeded   the model is at demo-0f1e2d3c/merged on claim demo-workspace
"""


def test_a_block_is_found_by_its_name_and_written_alone() -> None:
    assert recorded_blocks.recorded(PAGE) == {"check": "demo: ok\n", "why": "demo in namespace team: Failed\n"}
    written = recorded_blocks.with_recorded(PAGE, "why", "line \\1\n  ✓ two\n")
    assert recorded_blocks.recorded(written) == {"check": "demo: ok\n", "why": "line \\1\n  ✓ two\n"}
    assert recorded_blocks.with_recorded(written, "why", "demo in namespace team: Failed\n") == PAGE


def test_commands_are_found_with_the_block_of_their_output() -> None:
    assert recorded_blocks.commands(PAGE) == [("qwensft check job.yaml\n", "check"), ("qwensft resume demo\n", "")]


def test_a_page_is_compared_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.delenv("UPDATE_GOLDEN", raising=False)
    recorded_blocks.compare(page, "check", "demo: ok\n")
    with pytest.raises(AssertionError, match=r"not as page\.md shows check"):
        recorded_blocks.compare(page, "check", "demo: not ok\n")
    with pytest.raises(AssertionError, match="no block below"):
        recorded_blocks.compare(page, "plot", "")
    monkeypatch.setenv("UPDATE_GOLDEN", "1")
    recorded_blocks.compare(page, "check", "demo: not ok\n")
    assert page.read_text(encoding="utf-8") == PAGE.replace("demo: ok", "demo: not ok")


def test_times_and_figures_of_a_training_run_may_differ() -> None:
    assert recorded_blocks.normalised(STATUS) == recorded_blocks.normalised(LATER)
    assert recorded_blocks.normalised(STATUS)[1] == " ✓ prepare <duration> 200 samples, 40000 tokens"
    assert recorded_blocks.normalised(STATUS) != recorded_blocks.normalised(STATUS.replace("200 samples", "1 sample"))


def test_pods_nodes_ages_and_events_may_differ() -> None:
    other = PAGE_OF_WHY.replace("x7k2p", "9w4zz").replace("on local", "on node-7").replace("2m ago", "61s ago")
    other = other.replace("  12s ago  Warning", "  99s ago  Normal Starting (x2): 0 of 1\n  12s ago  Warning")
    assert recorded_blocks.normalised(PAGE_OF_WHY) == recorded_blocks.normalised(other)


@pytest.mark.parametrize("changed", ["row 2", "78", "InvalidDataset", "mend", "attempt 1", "Failed on", "under way"])
def test_what_a_page_says_may_not_differ(changed: str) -> None:
    other = PAGE_OF_WHY.replace(changed, "3")
    assert recorded_blocks.normalised(PAGE_OF_WHY) != recorded_blocks.normalised(other)


def test_a_run_that_is_followed_is_its_phases_and_its_end() -> None:
    assert recorded_blocks.normalised(FOLLOWED) == [
        "demo: submitted in namespace team",
        "<duration> Preparing",
        "<duration> Training",
        " <duration> Succeeded the model is at demo-<uid>/merged on claim demo-workspace",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("merged at demo-0f1e2d3c/merged", "merged at demo-a1b2c3d4/merged"),
        ("on claim demo-workspace, 95.8 MiB", "on claim demo-workspace, 812 B"),
        ("40 steps, loss 17.4 -> 0.51; adapter", "40 steps, loss 17.5 -> 1; adapter"),
        ("sha256:0f1e2d3c4b5a", "sha256:a1b2c3"),
        ("the next attempt starts at 12:00:20 UTC", "the next attempt starts at 03:14:59 UTC"),
        ("dial tcp 127.0.0.1:443: refused", "dial tcp [::1]:443: refused"),
        ("pod demo-train-2-10-abcde (node rank 10) on node a", "pod demo-train-2-10-zzzzz (node rank 10) on node b"),
        ("config.json ░░░░░░░░░░░░░░░░░░░░   0 %  0 B of 682 B", "config.json ████████████████████ 100 %  1.0 KiB"),
    ],
)  # fmt: skip
def test_what_is_another_each_time(one: str, other: str) -> None:
    assert recorded_blocks.normalised(one) == recorded_blocks.normalised(other) != [one]


def test_every_recorded_block_has_a_test_on_the_cluster() -> None:
    found = {page: set(recorded_blocks.recorded(page.read_text(encoding="utf-8"))) for page in PAGES}
    shown = {name for _, name in recorded_blocks.commands(TUTORIAL.read_text(encoding="utf-8")) if name}
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests" / "cli").glob("test_*.py"))
    compared = set(re.findall(r'compare\(COMMANDS, "([a-z-]+)"', tests))
    assert {page: names for page, names in found.items() if names} == {
        WHY: set(FAILURES),
        COMMANDS: compared,
        TUTORIAL: shown,
    }
    assert compared == {"status-training", "status-queued", "status-failed", "status-succeeded"}


def test_every_command_of_the_tutorial_is_run() -> None:
    assert {block.mark for block in blocks(TUTORIAL)} == {"run: cli"}
    assert len(blocks(TUTORIAL)) == len(recorded_blocks.commands(TUTORIAL.read_text(encoding="utf-8")))
