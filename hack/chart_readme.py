"""Writes the chart's README.md from the comments of its values.yaml: `python hack/chart_readme.py [--check]`.

A line `## Title` begins a table, a comment above a key says what the value is. A mapping whose keys have comments of
their own is a group, any other value is one row with its default. ADR 0150 says why.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "charts" / "qwen-sft-operator"
_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z][A-Za-z0-9]*):")
_LONGEST_DEFAULT = 60  # characters; what is longer is looked up

HEAD = """\
# qwen-sft-operator

{description}

    helm upgrade --install qwen-sft-operator charts/qwen-sft-operator --namespace qwen-sft-system --create-namespace \\
      --set image.repository=REGISTRY/operator --set-string image.tag=TAG --set trainerImage=REGISTRY/trainer:TAG

Needs Kubernetes {kubernetes}. How to upgrade, roll back, serve some namespaces only and uninstall stands in
[operations](../../docs/operations.md), who gets which right in [security](../../docs/security.md).
"""


class ValuesError(ValueError):
    """values.yaml has a value without a comment, or a comment without a value."""


@dataclass
class Entry:
    """A key of values.yaml, with its path, its comment, and its default."""

    path: tuple[str, ...]
    comment: str
    default: Any
    title: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def is_group(self) -> bool:
        """Whether the values below it are told one by one."""
        return any(entry.comment or entry.is_group for entry in self.entries)


def entries_of(text: str) -> list[Entry]:
    """Return the top-level values of a values.yaml, in its order."""
    values = yaml.safe_load(text)
    top: list[Entry] = []
    above: list[Entry] = []
    comment, title = "", ""
    for line in text.splitlines():
        bare = line.strip()
        if line.startswith("## "):
            title, comment = bare.removeprefix("## "), ""
        elif bare.startswith("#"):
            comment = f"{comment} {bare.lstrip('# ')}".strip()
        elif key := _KEY.match(line):
            depth = len(key["indent"]) // 2
            if depth <= len(above):  # else it is within a list
                above = above[:depth]
                path = (*(above[-1].path if above else ()), key["name"])
                entry = Entry(path, comment, _at(values, path), title)
                (above[-1].entries if above else top).append(entry)
                above.append(entry)
            comment = ""
        else:
            comment = ""
    return top


def rows(entries: list[Entry], about: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each value; the comment of a group stands before that of its first value."""
    for entry in entries:
        if entry.is_group:
            yield from rows(entry.entries, f"{about} {entry.comment}".strip())
        elif not entry.comment:
            raise ValuesError(f"values.yaml: {'.'.join(entry.path)} has no comment")
        else:
            yield ".".join(entry.path), _shown(entry.default), f"{about} {entry.comment}".strip()
        about = ""


def readme() -> str:
    """Return the text of README.md."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    kubernetes = chart["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    parts = [HEAD.format(description=chart["description"], kubernetes=f"{kubernetes} or newer")]
    title = ""
    for entry in entries_of((CHART / "values.yaml").read_text(encoding="utf-8")):
        if entry.title != title:
            title = entry.title
            parts.append(f"\n## {title}\n\n| value | default | meaning |\n|---|---|---|\n")
        parts += [f"| `{name}` | {default} | {_cell(text)} |\n" for name, default, text in rows([entry])]
    parts.append("\n<!-- Written by hack/chart_readme.py from values.yaml: `make generate`. -->\n")
    return "".join(parts)


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def _shown(default: Any) -> str:
    if default in (None, ""):
        return ""
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see values.yaml"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def main() -> int:
    """Write README.md, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    path, text = CHART / "README.md", readme()
    if parser.parse_args().check:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{path.relative_to(CHART.parents[1])} is not up to date: run `make generate`\n")
        return 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
