"""JSON files that are changed in single places: the order of keys, the indent and the last newline stay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Edit = Callable[[dict[str, Any]], list[str]]
"""Changes a file's content in place, and tells what and why; nothing when it leaves all."""

_INDENT = re.compile(r"\s*\{\s*\n([ \t]+)")


@dataclass(frozen=True)
class Document:
    """An object as a JSON file holds it."""

    content: dict[str, Any]
    indent: str | None
    end: str

    @classmethod
    def read(cls, path: Path) -> Document | None:
        """None when the file is missing or holds anything else."""
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(content, dict):
            return None
        indented = _INDENT.match(text)
        return cls(content, indented and indented[1], text[len(text.rstrip()) :])

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return (json.dumps(self.content, indent=self.indent, ensure_ascii=False) + self.end).encode()


def objects(document: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """The document itself, and those of its members `names` that are objects."""
    return [document, *(part for name in names if isinstance(part := document.get(name), dict))]
