"""docs/cli.md shows what golden files hold; UPDATE_GOLDEN=1 writes it.

What is printed of runs on a cluster is recorded there, and compared by tests/cli.
"""

import os
import re
from pathlib import Path

from qwensft.cli import failures
from qwensft.cli.cluster import COMMANDS as ASKING
from qwensft.cli.offline import COMMANDS as OFFLINE

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "cli.md"
GOLDEN = REPOSITORY / "tests" / "unit" / "client" / "cli" / "golden"
BLOCK = re.compile(r"(<!-- golden: (?P<name>\S+) -->\n```\w+\n)(?P<text>.*?)(```\n)", re.DOTALL)


def test_the_page_shows_what_is_printed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = BLOCK.sub(lambda found: f"{found[1]}{(GOLDEN / found['name']).read_text(encoding='utf-8')}{found[4]}", text)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(shown, encoding="utf-8")
    assert shown == PAGE.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) >= 5


def test_the_page_names_each_command_and_exit_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for command in (*OFFLINE, *ASKING):
        assert f"`{command.__name__.rstrip('_')}" in text
    codes = {value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes
