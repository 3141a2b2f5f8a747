"""What an operator and a training have told Prometheus, scrape after scrape, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = Path(__file__).parent / "recorded"
TARGETS = ("operator", "training")
_KEPT = 8


def read(target: str) -> list[str]:
    """The scrapes of a target, in their order."""
    return [path.read_text(encoding="utf-8") for path in sorted((FOLDER / target).glob("*.txt"))]


def write(directory: Path, scrapes: list[str]) -> None:
    """Keep a few scrapes that differ, the first and the last among them."""
    news = [text for before, text in zip(["", *scrapes], scrapes, strict=False) if text != before]
    if not news:
        raise SystemExit("nothing was scraped")
    places = sorted({round(place * (len(news) - 1) / max(1, _KEPT - 1)) for place in range(_KEPT)})
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for number, place in enumerate(places):
        (directory / f"{number:02}.txt").write_text(news[place], encoding="utf-8")
