"""What the tests measured: build/chaos.json, and the table of docs/reliability.md that is made of it.

python -m tests.chaos.figures      prints the table
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "build" / "chaos.json"
_COLUMNS = ("fault", "stage", "decision s", "API away s", "steps lost", "restarts", "run s")


@dataclass
class Figures:
    """Rows of one session, written to the file as they come: a later run of the same test replaces its own."""

    seed: int
    commit: str = field(default_factory=lambda: _git("rev-parse", "--short", "HEAD"))

    def add(self, test: str, **figures: Any) -> None:
        """Take note of what a test measured. Names are those of the columns, or others, which only the file holds."""
        key = [test, figures.get("fault"), figures.get("stage")]
        rows = [row for row in read() if [row["test"], row.get("fault"), row.get("stage")] != key]
        rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in figures.items()}
        rows.append({"test": test, "commit": self.commit, "seed": self.seed, **rounded})
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(rows, indent=1) + "\n")


def read() -> list[dict[str, Any]]:
    """Return all rows that were measured, in the order of their measuring."""
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


def table() -> str:
    """Return the rows as a table in Markdown."""
    lines = [f"| {' | '.join((*_COLUMNS, 'commit'))} |", "|" + "---|" * (len(_COLUMNS) + 1)]
    for row in read():
        values = [str(row.get(column, row.get(column.replace(" ", "_"), ""))) for column in (*_COLUMNS, "commit")]
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
