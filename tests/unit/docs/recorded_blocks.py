"""What commands have printed on a cluster, as pages show it: fenced blocks below `<!-- recorded: NAME -->`.

The test that gives the command compares, or writes the block anew from what was printed: UPDATE_GOLDEN=1.
ADR 0197 says what is compared.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

_BLOCK = re.compile(
    r"^(?P<head><!-- recorded: (?P<name>[a-z-]+) -->\n```\w+\n)(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_COMMANDS = re.compile(
    r"^<!-- run: cli -->\n```sh\n(?P<text>.*?)^```$(?:\n\n<!-- recorded: (?P<name>[a-z-]+) -->$)?",
    re.MULTILINE | re.DOTALL,
)
# What is another one each time. In this order: what stands first has parts that a later one would take.
_VARIES = [
    (re.compile(pattern, re.MULTILINE), shown)
    for pattern, shown in (
        (r"[█░]{20} .*", "<progress>"),
        (r"\bsha256:[0-9a-f]+", "<digest>"),
        (r"(?<=-)[0-9a-f]{8}(?=/)", "<uid>"),  # of the run, in the name of its folder
        (r"(-(?:prepare|train|merge)-\d+-\d+)-[a-z0-9]{5}\b", r"\1-<pod>"),
        (r"\b(Pending|Running|Succeeded|Failed) on [^\s;]+", r"\1 on <node>"),
        (r"\bon node [^\s:;,]+", "on node <node>"),
        (r"(?:\d+\.){3}\d+:\d+|\[::1\]:\d+", "<address>"),
        (r"\b\d+(?:\.\d+)? (?:[KMGT]i)?B\b", "<size>"),
        (r"\b\d\d:\d\d:\d\d UTC\b", "<time>"),
        (r"\b\d+[dhms] ago\b", "<age>"),
        (r"\b(?:\d+[dhm]\d\d[hms]|\d+s)\b", "<duration>"),
        (r"\bloss \S+ -> [^\s;]+", "<losses>"),
        (r" +", " "),  # columns are as wide as what stands in them
        (r"^ ?(<duration> (?:Pending|Preparing|Training|Merging))\b.*", r"\1"),  # what --watch says on the way
    )
]
_MISSED = ("<duration> Pending",)  # may be over before anyone has looked
_MOMENTARY = "Events"  # the last part of `why`: which of them there are depends on the moment


def recorded(source: str) -> dict[str, str]:
    """Return the recorded blocks of a page by their names."""
    return {found["name"]: found["text"] for found in _BLOCK.finditer(source)}


def with_recorded(source: str, name: str, text: str) -> str:
    """Return the page with this text in the block of that name."""
    return _BLOCK.sub(lambda found: f"{found['head']}{text}```" if found["name"] == name else found[0], source)


def normalised(text: str) -> list[str]:
    """Return the lines of an output without what differs from time to time; lines that are the same then are one."""
    for pattern, shown in _VARIES:
        text = pattern.sub(shown, text)
    lines = [line for line, _ in groupby(text.splitlines()) if line not in _MISSED]
    return lines[: lines.index(_MOMENTARY)] if _MOMENTARY in lines else lines


def updates() -> bool:
    """Whether blocks are to be written anew."""
    return bool(os.environ.get("UPDATE_GOLDEN"))


def shown(page: Path, name: str) -> str:
    """Return what a page shows below `<!-- recorded: NAME -->`."""
    blocks = recorded(page.read_text(encoding="utf-8"))
    assert name in blocks, f"{page.name} has no block below <!-- recorded: {name} -->"
    return blocks[name]


def compare(page: Path, name: str, text: str) -> None:
    """Compare an output with the block of a page, or write the block anew."""
    before = shown(page, name)
    if updates():
        page.write_text(with_recorded(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    else:
        assert normalised(text) == normalised(before), f"not as {page.name} shows {name}"


def commands(source: str) -> list[tuple[str, str]]:
    """Return the blocks of commands with the mark `run: cli`, each with the name of the block of what it prints.

    That stands below; the name is "" where the page does not show it.
    """
    return [(found["text"], found["name"] or "") for found in _COMMANDS.finditer(source)]
